"""The table of a study's runs in MLflow's page: its columns and order, and the link that opens it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hkd import metric_names as names
from hkd.text.redaction import redacted_uri

LOCAL_PAGE = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves a store that is no server."""
_VIEW = "hkd"


def experiment_tags(objectives: Sequence[str]) -> dict[str, str]:
    """Tags of an experiment with which MLflow's page shows a study.

    Without a kind, an experiment opens on a page about language models. A shared view, as its page writes it, has all
    runs in one table without the parent run, sorted by the first objective, with the objectives as columns.
    """
    columns = [f"metrics.`{name}`" for name in objectives]
    columns += [f"tags.`{name}`" for name in (names.TAG_ON_FRONT, names.TAG_ROLE)]
    view = {
        "searchFilter": f"tags.`{names.TAG_ROLE}` != '{names.ROLE_STUDY}'",
        "orderByKey": f"metrics.`{objectives[0]}`",
        "orderByAsc": True,
        "selectedColumns": columns,
    }
    return {
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{_VIEW}": json.dumps(view),
    }


def runs_link(uri: str, experiment_id: str) -> str:
    """The address of the table, without credentials, on the server at ``uri`` or of ``mlflow ui`` on this machine."""
    page = redacted_uri(uri).rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_PAGE
    # With credentials hidden as ***@, the address would not open.
    page = page.replace("***@", "")
    return f"{page}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={_VIEW}"
