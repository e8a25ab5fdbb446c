"""Things that are chosen by name: ours, and those that other installed packages bring."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from wsi_anomaly.core.errors import PluginError, UsageError, WsiAnomalyError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")
Item = TypeVar("Item")


class Registry(Generic[T]):
    """Things of one kind by name.

    Ours are imported when they are asked for. Entry points of other packages are looked up only for
    a name that is not ours: the look-up takes longer than the whole of ``--help``.

    Parameters
    ----------
    kind : str
        What one of them is called, for messages.
    group : str
        Entry-point group in which other packages name theirs.
    ours : mapping of str to str
        Name to the module that registers it.
    attribute : str, optional
        Attribute of a registered class that gets the name.
    base : str, optional
        ``module:Class`` that every class of another package is derived from; None: they are
        functions.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        ours: Mapping[str, str],
        *,
        attribute: str | None = None,
        base: str | None = None,
    ) -> None:
        self.kind, self.group = kind, group
        self._ours, self._attribute, self._base = dict(ours), attribute, base
        self._items: dict[str, T] = {}
        self._found: dict[str, list[EntryPoint]] | None = None

    def register(self, name: str) -> Callable[[Item], Item]:
        """Decorate what is to be known as `name`.

        Raises
        ------
        UsageError
            The name is one of ours.
        """

        def keep(item: Item) -> Item:
            if self._ours.get(name, item.__module__) != item.__module__:
                raise UsageError(
                    f"There is a {self.kind} {name!r} in wsi-anomaly; register yours under another "
                    "name."
                )
            self._keep(name, item)
            return item

        return keep

    def names(self) -> tuple[str, ...]:
        """Names without those of other packages; nothing is imported."""
        return tuple(dict.fromkeys((*self._ours, *self._items)))

    def __contains__(self, name: str) -> bool:
        return name in self._ours or name in self._items or name in self.foreign()

    def get(self, name: str) -> T:
        """Return what has the name; ours before that of another package.

        Raises
        ------
        UsageError
            Nothing has it.
        PluginError
            The package that brings it is broken; the message names it.
        """
        if name not in self._items:
            if name in self._ours:
                import_module(self._ours[name])
            else:
                self._keep(name, self._load(name))
        return self._items[name]

    def foreign(self) -> dict[str, str]:
        """Names that other packages have registered, each with the package and its version.

        Also those under names of ours, for which :meth:`get` gives ours.
        """
        return {name: " and ".join(map(_package, points)) for name, points in self._points.items()}

    def package(self, name: str) -> str | None:
        """Name and version of the package that brings `name`; None for ours."""
        return None if name in self._ours else self.foreign().get(name)

    @contextlib.contextmanager
    def blaming(self, name: str) -> Iterator[None]:
        """Turn any error of another package's code into one sentence that names the package.

        Raises
        ------
        PluginError
            In place of what was raised; errors of ours pass.
        """
        try:
            yield
        except (WsiAnomalyError, MemoryError):
            raise
        except Exception as error:
            package = self.package(name)
            if package is None:
                raise
            raise PluginError(
                f"The {self.kind} {name} of the package {package} failed ({_reason(error)}); "
                "update that package, or tell its authors."
            ) from error

    @property
    def _points(self) -> dict[str, list[EntryPoint]]:
        if self._found is None:
            from importlib.metadata import entry_points

            self._found = {}
            for point in entry_points(group=self.group):
                # python -m looks for packages in the current folder too, which may be a stranger's.
                if point.dist and Path(str(point.dist.locate_file(""))).resolve() != Path.cwd():
                    self._found.setdefault(point.name, []).append(point)
        return self._found

    def _load(self, name: str) -> T:
        points = self._points.get(name, [])
        if not points:
            known = dict.fromkeys((*self.names(), *self._points))
            raise UsageError(f"There is no {self.kind} {name!r}; choose one of {', '.join(known)}.")
        package = self.foreign()[name]
        if len(points) > 1:
            raise PluginError(
                f"The packages {package} both bring a {self.kind} {name}; uninstall one of them."
            )
        try:
            item: Any = points[0].load()
        except Exception as error:
            raise PluginError(
                f"The {self.kind} {name} of the package {package} cannot be loaded "
                f"({_reason(error)}); update or uninstall that package."
            ) from error
        if self._base is None:
            if not callable(item):
                raise PluginError(
                    f"The {self.kind} {name} of the package {package} is no function; update or "
                    "uninstall that package."
                )
        else:
            module, _, wanted = self._base.partition(":")
            base = getattr(import_module(module), wanted)
            if not isinstance(item, type) or not issubclass(item, base):
                raise PluginError(
                    f"The {self.kind} {name} of the package {package} is no {module}.{wanted}; "
                    "update or uninstall that package."
                )
        return item  # type: ignore[no-any-return]

    def _keep(self, name: str, item: Any) -> None:
        if self._attribute is not None:
            setattr(item, self._attribute, name)
        self._items[name] = item


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "of unknown name"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
