"""A package of an extra that is missing is one sentence with the line that installs it."""

import pytest

from wsi_anomaly.core.errors import UsageError
from wsi_anomaly.core.extras import import_extra


def test_what_is_there_is_imported():
    assert import_extra("json.decoder", "export", "Exporting").JSONDecoder


def test_what_is_missing_is_named_with_the_line_that_installs_it():
    with pytest.raises(UsageError) as said:
        import_extra("no_such_package.part", "export", "Exporting")
    assert str(said.value) == (
        "Exporting needs no_such_package, which is not installed: "
        'pip install "wsi-anomaly[export]".'
    )
