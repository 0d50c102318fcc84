"""One schema for rows whose columns differ in types or are not all there."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from api.bulk.errors import BulkError


def unified(schemas: Iterable[Any]) -> Any:
    """The schema that has the columns of all, in the order in which they first come, and types that hold all values.

    Integers and floats become floats, objects get the fields of all, null gives way to anything, and a number beside
    lists of numbers becomes a list. What every schema has alike stays untouched.

    Raises:
        BulkError: a column has types that are not to be brought together.
    """
    found: dict[str, Any] = {}
    metadata: dict[bytes, bytes] = {}
    for schema in schemas:
        metadata = {**(schema.metadata or {}), **metadata}
        for field in schema:
            known = found.get(field.name)
            found[field.name] = field if known is None else _field(known, field)
    fields = [field.with_type(_storable(field.type)) for field in found.values()]
    return pa.schema(fields, metadata=metadata or None)


def no_type(column: str, reason: str) -> BulkError:
    """What is raised where Parquet cannot have a column."""
    said = (reason.splitlines() or [""])[0].rstrip(".")
    return BulkError(
        f"The values of column {column} have no type in common, which Parquet asks for ({said}): write JSON Lines, by "
        "a name of the output that ends in .jsonl."
    )


def _field(one: Any, other: Any) -> Any:
    if one.equals(other, check_metadata=True):
        return one
    try:
        kind = _type(one.type, other.type)
    except pa.ArrowException as error:
        raise no_type(one.name, f"{one.type} and {other.type}") from error
    return one.with_type(kind).with_nullable(one.nullable or other.nullable)


def _type(one: Any, other: Any) -> Any:
    if one.equals(other):
        return one
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_type(one.value_type, other.value_type))
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        names = dict.fromkeys([*(field.name for field in one), *(field.name for field in other)])
        return pa.struct([pa.field(name, _member(one, other, name)) for name in names])
    if pa.types.is_list(one) and pa.types.is_floating(other):
        return pa.list_(_type(one.value_type, other))
    if pa.types.is_list(other) and pa.types.is_floating(one):
        return pa.list_(_type(other.value_type, one))
    fields = [pa.schema([pa.field("it", each)]) for each in (one, other)]
    return pa.unify_schemas(fields, promote_options="permissive").field(0).type


def _member(one: Any, other: Any, name: str) -> Any:
    """The type of a field of objects that one or both kinds have."""
    found = [each.field(name).type for each in (one, other) if each.get_field_index(name) >= 0]
    return found[0] if len(found) == 1 else _type(*found)


def _storable(kind: Any) -> Any:
    """The type, with null for objects that have no field in any row: Parquet has no such objects."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_storable(field.type)) for field in kind]) if kind.num_fields else pa.null()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_storable(kind.value_type)))
    return kind


def cast_to(batch: Any, schema: Any) -> Any:
    """A record batch with the columns of a unified schema; those that it lacks are null."""
    if batch.schema.equals(schema):
        return batch
    columns = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        column = pa.nulls(batch.num_rows) if index < 0 else batch.column(index)
        try:
            columns.append(_cast(column, field.type))
        except pa.ArrowException as error:
            raise no_type(field.name, str(error)) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(array: Any, kind: Any) -> Any:
    if array.type.equals(kind):
        return array
    if pa.types.is_null(kind) or pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if pa.types.is_list(array.type) and pa.types.is_list(kind):
        return _cast_list(array, kind)
    if pa.types.is_struct(array.type) and pa.types.is_struct(kind):
        return _cast_struct(array, kind)
    if pa.types.is_list(kind):
        offsets = pa.array(range(len(array) + 1), pa.int32())
        lists = pa.ListArray.from_arrays(offsets, _cast(array, kind.value_type), type=kind)
        return pa.compute.if_else(array.is_valid(), lists, pa.nulls(len(array), kind))
    return array.cast(kind)


def _cast_list(array: Any, kind: Any) -> Any:
    """By its values, of which an array that is a slice has others before and behind."""
    offsets = array.offsets
    begin, end = offsets[0].as_py(), offsets[-1].as_py()
    values = _cast(array.values[begin:end], kind.value_type)
    shifted = pa.compute.subtract(offsets, pa.scalar(begin, offsets.type))
    return pa.ListArray.from_arrays(shifted, values, type=kind, mask=array.is_null())


def _cast_struct(array: Any, kind: Any) -> Any:
    members = []
    for field in kind:
        known = array.type.get_field_index(field.name) >= 0
        members.append(_cast(array.field(field.name), field.type) if known else pa.nulls(len(array), field.type))
    return pa.StructArray.from_arrays(members, fields=list(kind), mask=array.is_null())
