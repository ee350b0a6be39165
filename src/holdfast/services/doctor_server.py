"""What doctor looks at in the Prefect server of `holdfast up`: it answers, schedules, and has a worker here.

Rules upheld here:
- It asks over HTTP and imports nothing of Prefect: doctor works where Prefect does not, and is quick.
- Where nothing was started and no server is named there is nothing to say.

Source: the server's own API description, /openapi.json.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.config.place import state_folder
from holdfast.services.finding import Finding

_POOL = "holdfast"
_SECONDS = 10.0
_RECORDS = ("worker.json", "server.json")
_LATE = 3


def examine_server(host: str, env: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """The findings about server, schedules and this host's worker."""
    api = _address(env)
    if api is None:
        return
    try:
        version = _ask(api, "/admin/version")
        scheduling = any(_schedules(found) for found in _ask(api, "/deployments/filter", {"limit": 200}))
        coming, late = _count(api, type="SCHEDULED"), _count(api, name="Late")
        workers = _ask(api, f"/work_pools/{_POOL}/workers/filter", {})
    except (OSError, ValueError) as error:
        yield Finding(
            check="server", verdict="fail", found=f"{api} does not answer: {_why(error)}", hint="holdfast up starts it"
        )
        return
    yield Finding(check="server", verdict="ok", found=f"{api} answers, Prefect {version}")
    yield _scheduler(scheduling, coming)
    yield _worker(host, {str(found["name"]): str(found["status"]) for found in workers}, late)


def _scheduler(scheduling: bool, coming: int) -> Finding:
    stuck = scheduling and not coming
    return Finding(
        check="scheduler",
        verdict="fail" if stuck else "ok",
        found=f"{coming} runs are scheduled" if scheduling else "no schedule is active",
        hint="less server.log in the state folder; the packages must be those of requirements.lock" if stuck else None,
    )


def _worker(host: str, workers: Mapping[str, str], late: int) -> Finding:
    online = workers.get(host) == "ONLINE"
    waiting = late >= _LATE
    found = "is online" if online else "is not online: what is scheduled does not run"
    return Finding(
        check="worker",
        verdict="fail" if not online else "warn" if waiting else "ok",
        found=f"{host} {found}" + (f"; {late} runs are late" if waiting else ""),
        hint="holdfast up" if not online else "less worker.log in the state folder" if waiting else None,
    )


def _address(env: Mapping[str, str]) -> str | None:
    """The server's API: the one that is named, else the one that `up` started or was given on this host."""
    if env.get("PREFECT_API_URL"):
        return env["PREFECT_API_URL"].rstrip("/")
    for name in _RECORDS:
        try:
            with open(os.path.join(state_folder(env), name), encoding="utf-8") as file:
                url = str(json.load(file).get("url") or "")
        except (OSError, ValueError):
            continue
        if url:
            return f"{url.rstrip('/').removesuffix('/api')}/api"
    return None


def _schedules(deployment: Mapping[str, Any]) -> bool:
    return not deployment.get("paused") and any(schedule["active"] for schedule in deployment.get("schedules") or ())


def _count(api: str, **state: str) -> int:
    chosen = {"state": {key: {"any_": [value]} for key, value in state.items()}}
    return int(_ask(api, "/flow_runs/count", {"flow_runs": chosen}))


def _ask(api: str, path: str, document: object = None) -> Any:
    """The answer to one question. Raises: OSError, ValueError."""
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(api + path, data, {"Content-Type": "application/json"})  # noqa: S310  the operator's own server
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_SECONDS) as answer:
        return json.load(answer)


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    return str(error.reason if isinstance(error, urllib.error.URLError) else error)
