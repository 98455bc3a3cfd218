"""Build script: the metadata, and the `.mim` folder that MMDetection packages ship."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE = 'mmdet_imbalance'
#: What `mim` looks for inside an installed package.
MIM_CONTENTS = ('configs', 'tools', 'model-index.yml')


def requirements(name: str) -> list[str]:
    """Requirement lines of requirements/NAME.txt, without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    lines = [line.split('#')[0].strip() for line in lines]
    return [line for line in lines if line]


def version() -> str:
    """Version string, read without importing the package."""
    namespace: dict[str, str] = {}
    exec((ROOT / PACKAGE / 'version.py').read_text(), namespace)
    return namespace['__version__']


class BuildWithMim(build_py):
    """`build_py` that also puts configs and tools into `mmdet_imbalance/.mim`.

    A wheel gets copies inside the build folder, so building leaves the source tree
    clean; an editable install gets links, so that edits are seen.
    """

    def run(self) -> None:
        """Build the modules, then fill `.mim`."""
        super().run()
        editable = getattr(self, 'editable_mode', False)
        target = (ROOT if editable else Path(self.build_lib)) / PACKAGE / '.mim'
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        for name in MIM_CONTENTS:
            source, copy = ROOT / name, target / name
            if editable:
                copy.symlink_to(Path('..', '..', name), source.is_dir())
            elif source.is_dir():
                shutil.copytree(
                    source, copy, ignore=shutil.ignore_patterns('__pycache__')
                )
            else:
                shutil.copy2(source, copy)


host = requirements('host')
tests = requirements('tests')
docs = requirements('docs')
lint = requirements('lint')

setup(
    name='mmdet-imbalance',
    version=version(),
    description='Imbalanced, long-tail and multi-label detection for MMDetection',
    long_description=(
        (ROOT / 'README.md').read_text() if (ROOT / 'README.md').exists() else ''
    ),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE', 'NOTICE'],
    keywords='object detection, long tail, class imbalance, MMDetection',
    classifiers=[
        'Development Status :: 4 - Beta',
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['py.typed', 'datasets/*.json']},
    python_requires='>=3.10',
    # Neither torch nor the host is a hard dependency. The import names mmengine, mmcv
    # and mmdet come from two families of distributions; a pin on one of them would
    # overwrite the other in the environment of a user who has it. And torch must be
    # there, in the user's CUDA flavour, before the host's operators are compiled.
    # `mmdet_imbalance.host` checks at import and says what to install.
    install_requires=requirements('runtime'),
    extras_require={
        'host': host,
        'tests': tests,
        'docs': docs,
        'lint': lint,
        'all': host + tests + docs + lint,
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
