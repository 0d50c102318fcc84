"""The shape of the records is found from the first rows, or told by flags; then every row is read by it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from api.bulk.cells import Cells
from api.bulk.errors import BulkError
from api.bulk.forms import FORMS, Form, Names
from api.bulk.requests import Request
from api.bulk.results import EMBEDDING, SCORE, Columns, Entry, Outcome, Result
from api.bulk.rows import Row, RowError
from api.bulk.values import has, kind_of

SHAPE, COLUMN, PREFIX, STEP_TAG = "--shape", "--column", "--column-prefix", "--step-tag"
"""The flags that move what this module decides, as its errors name them."""


@dataclass(frozen=True)
class Overrides:
    """What the user says about the records; what is left out is found.

    Attributes:
        shape: the name of a form.
        columns: role to column: `--column prompt=ask` gives {"prompt": "ask"}; "a.b" leads into an object.
        prefix: before the name of each new column.
        step_tag: behind each step of a solution, for models with step rewards, like "<extra_0>".
    """

    shape: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    step_tag: str | None = None


@dataclass(frozen=True)
class Shape:
    """How records are read, and which columns they get.

    Attributes:
        form: the kind of records.
        roles: of each role of the form the column that has it.
        result: what becomes of the replies.
        prefix, step_tag: as of the overrides.
    """

    form: Form
    roles: Mapping[str, str]
    result: Result
    prefix: str = ""
    step_tag: str | None = None

    @property
    def name(self) -> str:
        """Of the form, as `--shape` takes it."""
        return self.form.name

    @property
    def new_columns(self) -> tuple[str, ...]:
        """Their names, in the order in which they follow the input's."""
        return tuple(self.prefix + name for name in self.result.names)

    def description(self) -> str:
        """The name and the column of each role, in a line for the user."""
        said = [f"{role} from `{column}`" for role, column in self.roles.items()]
        return f"{self.name}: {', '.join(said)}"

    def requests(self, row: Row) -> list[Request]:
        """The rows of `POST /v1/rows` that a record makes: one, two of a pair (chosen first), or one a document.

        Raises:
            RowError: a value is missing, null or not what it must be, or a column has the name of a new one.
        """
        for name in self.new_columns:
            if name in row.values:
                raise RowError(name, f"is there already, and is a new column: {PREFIX} gives new ones other names")
        return self.form.read(Cells(row.values, self.roles, self.step_tag))

    def column_of(self, index: int) -> str | None:
        """The column that a request is about, by its index; None where it is made of several."""
        if self.form.parts:
            return self.roles[self.form.parts[index]]
        return next(iter(self.roles.values())) if len(self.form.needs) == 1 else None

    def columns(self, row: Row, entries: Sequence[Entry], *, lists: bool = False) -> Columns:
        """The new columns, from the route's entries for the requests in their order; none of them an error.

        Args:
            lists: whether a list with one score stays a list: where the reply's pooling is STEP or ALL, so that the
                column has one type.
        """
        found = self.result.columns(entries, lists)
        return {self.prefix + name: found[name] for name in self.result.names}

    def outcome(self, row: Row, columns: Mapping[str, Any]) -> Outcome:
        """What the summary counts, from the columns that `columns` gave."""
        outcome = self.result.outcome({name: columns[self.prefix + name] for name in self.result.names})
        subset = Cells(row.values, self.roles).get("subset") if "subset" in self.roles else None
        return outcome if subset is None else replace(outcome, subset=str(subset))


def shape_of(task: str, first_rows: Sequence[Row], overrides: Overrides = Overrides()) -> Shape:
    """The one shape that the first rows have.

    Rows that fit nothing are left aside while others fit: they become bad rows when their turn comes.

    Args:
        task: "score", "embed" or "rerank".

    Raises:
        BulkError: no shape fits, the rows have several, two columns could have one role, a column that a flag names is
            not there, or a new column has the name of one that is.
    """
    if not first_rows:
        raise BulkError(
            "The input has no readable row, so there is nothing to find its shape by: look at its first lines."
        )
    forms = _allowed(task, overrides)
    _check_columns(first_rows, overrides)
    found = [(row, form) for row in first_rows if (form := _form_of(row, forms, overrides))]
    if not found:
        raise _no_form(task, first_rows, forms, overrides)
    row, form = found[0]
    for other_row, other in found[1:]:
        if other is not form:
            raise BulkError(
                f"The records are mixed: row {row.number} of {row.file} has the shape {form.name} "
                f"({_shown(form, row, overrides)}) and row {other_row.number} of {other_row.file} the shape "
                f"{other.name} ({_shown(other, other_row, overrides)}); {SHAPE} {form.name} reads all as that, and "
                "calls the others bad rows."
            )
    shape = _shape(task, form, [row for row, _ in found], overrides)
    _check_new(shape, first_rows)
    return shape


def _allowed(task: str, overrides: Overrides) -> list[Form]:
    """The forms that flags and task leave."""
    forms = [form for form in FORMS if task in form.tasks]
    if overrides.shape is not None:
        names = ", ".join(form.name for form in forms)
        forms = [form for form in forms if form.name == overrides.shape]
        if not forms:
            raise BulkError(f"{SHAPE} {overrides.shape} is no shape of {task}: choose one of {names}.")
    roles = sorted({role for form in forms for role in (*form.needs, *form.may)})
    for role in overrides.columns:
        if role not in roles:
            raise BulkError(f"{COLUMN} {role}=... names no role here: roles are {', '.join(roles)}.")
    asked = set(overrides.columns)
    forms = [form for form in forms if asked <= {*form.needs, *form.may}]
    if not forms:
        raise BulkError(f"{COLUMN} names roles that no shape has together: {', '.join(sorted(asked))}.")
    # What may be there decides nothing: naming it is no reason to leave out a form that needs no more than others.
    return forms


def _check_columns(rows: Sequence[Row], overrides: Overrides) -> None:
    for role, column in overrides.columns.items():
        if not any(has(row.values, column) for row in rows):
            raise BulkError(f"{COLUMN} {role}={column} names a column that is not there: there are {_columns(rows)}.")


def _form_of(row: Row, forms: Iterable[Form], overrides: Overrides) -> Form | None:
    """The first form that fits; None where none does, or where a null leaves open whether one would."""
    for form in forms:
        cells = Cells(row.values, _columns_of(form, [row], overrides))
        if any(role not in cells.columns for role in form.needs):
            continue
        if any(cells[role] is None for role in form.needs):
            return None
        if form.fits(cells):
            return form
    return None


def _columns_of(form: Form, rows: Sequence[Row], overrides: Overrides) -> dict[str, str]:
    """Of each role the first column that it could have; roles without one are left out."""
    found: dict[str, str] = {}
    for role, names in _asked(form, overrides).items():
        present = [name for name in names if any(has(row.values, name) for row in rows)]
        if present:
            found[role] = present[0]
    return found


def _asked(form: Form, overrides: Overrides) -> Names:
    """Of each role the names that come into question; a column that a flag gives to one role is no alias of another."""
    taken = set(overrides.columns.values())
    return {
        role: (overrides.columns[role],)
        if role in overrides.columns
        else tuple(name for name in names if name not in taken)
        for role, names in {**form.needs, **form.may}.items()
    }


def _shape(task: str, form: Form, rows: Sequence[Row], overrides: Overrides) -> Shape:
    if form.name == "steps" and overrides.step_tag is None:
        raise BulkError(
            f"The records have steps, and {STEP_TAG} does not say what stands behind each: it is the model's step "
            "token, like <extra_0>."
        )
    roles = _columns_of(form, rows, overrides)
    for role, names in _asked(form, overrides).items():
        others = _alike(names, role, roles, rows)
        if len(others) > 1 and others[0] != names[0]:
            raise BulkError(
                f"The records have {' and '.join(f'`{name}`' for name in others)}, either of which could be the "
                f"{role}: choose by {COLUMN} {role}={others[0]}."
            )
    result = EMBEDDING if task == "embed" and form.gives is SCORE else form.gives
    return Shape(form, roles, result, overrides.prefix, overrides.step_tag)


def _alike(names: Sequence[str], role: str, roles: Mapping[str, str], rows: Sequence[Row]) -> list[str]:
    """The columns that could have a role: not those that have another, and no object in which one of them is."""
    present = [name for name in names if any(has(row.values, name) for row in rows)]
    free = [name for name in present if name == roles[role] or name not in roles.values()]
    return [name for name in free if not any(other.startswith(f"{name}.") for other in free)]


def _check_new(shape: Shape, rows: Sequence[Row]) -> None:
    for row in rows:
        for name in shape.new_columns:
            if name in row.values:
                raise BulkError(
                    f"Row {row.number} of {row.file} has a column {name} already, and it is the name of a new one: "
                    f"give new columns another name by {PREFIX}, like {PREFIX} new_."
                )


def _no_form(task: str, rows: Sequence[Row], forms: Sequence[Form], overrides: Overrides) -> BulkError:
    row = rows[0]
    if overrides.shape is not None:
        form = forms[0]
        columns = _columns_of(form, [row], overrides)
        missing = [role for role in form.needs if role not in columns]
        if missing:
            return BulkError(
                f"{SHAPE} {form.name} needs a column for {' and '.join(missing)}, and there are {_columns(rows)}: name "
                f"it by {COLUMN} {missing[0]}=NAME."
            )
        return BulkError(
            f"{SHAPE} {form.name} does not fit row {row.number} of {row.file}: {_reason(form, row, columns)}."
        )
    found = ", ".join(f"{name} ({kind_of(value)})" for name, value in row.values.items()) or "no columns"
    return BulkError(
        f"No shape of {task} fits row {row.number} of {row.file}, which has {found}: say which columns have which role "
        f"by {COLUMN} ROLE=NAME, like {COLUMN} {next(iter(forms[-1].needs))}=NAME."
    )


def _reason(form: Form, row: Row, columns: Mapping[str, str]) -> str:
    try:
        form.read(Cells(row.values, columns))
    except RowError as error:
        return str(error)
    return f"its {' and '.join(columns[role] for role in form.needs)} are of other kinds"


def _shown(form: Form, row: Row, overrides: Overrides) -> str:
    columns = _columns_of(form, [row], overrides)
    return ", ".join(columns[role] for role in form.needs)


def _columns(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    return ", ".join(names) or "none"
