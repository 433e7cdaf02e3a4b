"""Which wheels a command is for, by their names."""

from __future__ import annotations

import click

from wheels.targets import Variant, select

__all__ = ["only"]


class Patterns(click.ParamType["list[Variant]"]):
    """Names of wheels, as a shell would match them."""

    name = "patterns"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[Variant]:
        try:
            return select(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


only = click.option("--only", type=Patterns(), help="Wheels, with commas, as 'cp312-*,*-musllinux*'; otherwise all.")
"""A decorator: the command gets ``only``, a list, or None."""
