"""A distribution named opencv-python without files; headless OpenCV stands behind it.

The host requires `opencv-python` and, through imaug, `opencv-python-headless` too.
Both unpack into the folder `cv2`: the last one to arrive overwrites the first one's
extension module, needs the shared libraries of its own wheel, and uninstalling either
breaks `import cv2`.  Leaving one out with `--no-deps` makes `pip check` fail for ever
and turns every later `pip install` into a repair of it.  This empty distribution
satisfies the requirement, so exactly one `cv2` is installed: the headless one, which
needs no libGL on a server.  It is installed from this folder and never published.
"""

from setuptools import setup

# The last release before 4.13, which imaug refuses.
OPENCV = '4.12.0.88'

setup(
    name='opencv-python',
    version=f'{OPENCV}+headless',
    description='Empty stand-in: cv2 comes from opencv-python-headless',
    install_requires=[f'opencv-python-headless=={OPENCV}'],
    py_modules=[],
    packages=[],
)
