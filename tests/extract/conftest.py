import pytest

from cxrfeat._extract import extract

SIZE = 32


@pytest.fixture
def run(tmp_path):
    """Extract with a real, small network: DenseNet121 with random weights at 32 pixels."""

    def go(study, **options):
        return extract(study, **{"cache": tmp_path / "cache", "weights": "random:0", "size": SIZE, **options})

    return go
