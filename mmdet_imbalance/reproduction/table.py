"""Tables: what a paper compares, as rows of configs at one or more scales."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Published:
    """A figure as somebody published it.

    Attributes:
        value: the figure, in percent where it is an AP.
        figure: what was measured, and on which data.
        source: where it stands.
        metric: key of the measured figure that it is comparable with; None where this
            table measures no such figure.
    """

    value: float
    figure: str
    source: str
    metric: str | None = None


@dataclass(frozen=True)
class Annotation:
    """A training annotation that is cut before use, by `tools/make_longtail.py`.

    Attributes:
        file: annotation to cut, relative to the data folder.
        options: of the tool.
    """

    file: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Uses:
    """A file that another row leaves in its work folder.

    Attributes:
        row: name of that row.
        file: relative to its work folder.
        key: of the config that takes the file.
    """

    row: str
    file: str
    key: str


@dataclass(frozen=True)
class Setting:
    """One data set at one scale, and how rows are run on it.

    Attributes:
        name: of the setting, for the reader and in folder names.
        scale: that it belongs to.
        data: folder below the data root.
        protocol: 'train' or 'retrain_head'.
        options: of the tool that the protocol names.
        stocks: config of each stock detector by name, for 'retrain_head'.
        metrics: heading by key of the metric; the first is the main one.
        overrides: of every row's config.
        seeded: keys of the config that take the seed, beside the run's own.
        annotation: cut of the training annotation, or None.
        note: for the reader.
    """

    name: str
    scale: str
    data: str
    protocol: str
    options: tuple[str, ...]
    stocks: dict[str, str]
    metrics: dict[str, str]
    overrides: dict[str, Any]
    seeded: tuple[str, ...] = ()
    annotation: Annotation | None = None
    note: str = ''


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: for the reader.
        configs: config by name of a setting or of a scale; a row without one for a
            setting is not part of the table there.
        published: figures, empty where none is available.
        overrides: of the config.
        options: in place of the setting's; None keeps those.
        protocol: in place of the setting's; None keeps that.
        stock: name of the stock detector; None for the first.
        uses: file of another row, or None.
        against: name of the row to compare with; None for the table's baseline.
        note: for the reader.
    """

    name: str
    configs: dict[str, str]
    published: tuple[Published, ...]
    overrides: dict[str, Any]
    options: tuple[str, ...] | None = None
    protocol: str | None = None
    stock: str | None = None
    uses: Uses | None = None
    against: str | None = None
    note: str = ''

    def config(self, setting: Setting) -> str | None:
        """Config in a setting, or None."""
        name = self.configs.get(setting.name, self.configs.get(setting.scale))
        return None if name is None else name.replace('{data}', setting.data)


@dataclass(frozen=True)
class Table:
    """A table file.

    Attributes:
        path: of the file.
        title, paper: for the reader.
        baseline: name of the row that the others are compared with.
        seeds: default.
        scales: settings by name of the scale.
        rows: in order.
        note: for the reader.
    """

    path: Path
    title: str
    paper: str
    baseline: str
    seeds: tuple[int, ...]
    scales: dict[str, tuple[Setting, ...]]
    rows: tuple[Row, ...]
    note: str = ''
    _index: dict[str, Row] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Stem of the file."""
        return self.path.stem

    def row(self, name: str) -> Row:
        """The row of a name."""
        return self._index[name]

    def against(self, row: Row) -> str | None:
        """Name of the row that a row is compared with; None for the baseline."""
        if row.name == self.baseline:
            return None
        return row.against or self.baseline

    def rows_in(self, setting: Setting) -> list[Row]:
        """Rows that have a config in the setting."""
        return [row for row in self.rows if row.config(setting) is not None]
