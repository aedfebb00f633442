"""One finished run of the tiny configuration, shared by the tests that only look at it."""

import pytest

from tests.workflow.project import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project whose tiny study is done, with Snakemake's output in `.output`."""
    project = Project(tmp_path_factory.mktemp("project") / "lowbit project")
    project.output = project.snakemake().stdout
    return project
