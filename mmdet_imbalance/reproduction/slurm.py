"""SLURM lines that run the unfinished jobs of a table as arrays."""

from collections.abc import Sequence

from mmdet_imbalance.reproduction.commands import shell_line
from mmdet_imbalance.reproduction.jobs import Job, identity


def array_lines(
    jobs: Sequence[Job], command: Sequence[str], gpus: int, partition: str | None
) -> list[str]:
    """`sbatch` lines: jobs that others need first, the others once those are done.

    Args:
        jobs: all jobs in the order of `--job`, finished ones included.
        command: of `tools/reproduce.py`, without `--job`.
        gpus: of a training.
        partition: of SLURM; None leaves it to the cluster.
    """
    needed = {identity(need) for job in jobs for need in job.needs}
    waves: dict[bool, list[int]] = {True: [], False: []}
    for number, job in enumerate(jobs):
        if job.result() is None and job.missing is None:
            waves[identity(job) in needed].append(number)
    launcher = ['--launcher', 'pytorch', '--gpus', str(gpus)] if gpus > 1 else []
    words = shell_line([*command, *launcher])
    lines, after = [], ''
    for numbers in waves.values():
        if not numbers:
            continue
        options = [f'--array={ranges(numbers)}', f'--gres=gpu:{gpus}', '--ntasks=1']
        if partition is not None:
            options.insert(0, f'--partition={partition}')
        call = f'sbatch --parsable {" ".join(options)}{after} \\\n'
        call += f"  --wrap '{_inside_quotes(words)} --job $SLURM_ARRAY_TASK_ID'"
        lines.append(f'first=$({call})' if not lines else call)
        after = ' --dependency=afterany:$first'
    return lines


def ranges(numbers: Sequence[int]) -> str:
    """'0-2,5' for 0, 1, 2, 5."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ','.join(
        f'{part[0]}-{part[-1]}' if len(part) > 1 else str(part[0]) for part in parts
    )


def _inside_quotes(text: str) -> str:
    return text.replace("'", "'\\''")
