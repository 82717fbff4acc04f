"""No secret value in any output: values are planted where secrets lie, and looked for wherever canary writes or speaks.

Secrets themselves are not among them: the controller has no right to read one, and the embedded cluster holds none.
"""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from sim_street import COLLAPSE, Street, short_policy

from canary.alerts.sink import Couriers, Page
from canary.api.marks import Mark
from canary.api.reasons import Phase, Verb
from canary.audit.store import FileStore
from canary.cli.main import main
from canary.core.telling.page_texts import Place
from canary.kube.cache import LAST_APPLIED
from canary.kube.client import Client, Intent
from canary.kube.resources import DEPLOYMENTS
from canary.lab import manifests
from canary.lab.apiserver.admission import User
from canary.lab.apiserver.protocol import ApiServer, InProcessTransport
from canary.lab.rehearsal.scenario import PORT, build_hands
from canary.operator.controller import Controller
from canary.operator.inventory import Inventory
from canary.operator.telemetry import Telemetry
from canary.operator.tell import Teller

CHECKOUT = DEPLOYMENTS.at(manifests.NAMESPACE, manifests.NAME)
PLANTED = ("planted-env", "planted-argument", "planted-annotation")
OWN_KINDS = ("CanaryRun", "CanaryPolicy", "CanaryRequest", "Event", "Lease")
STEADY = short_policy(steps=[{"weight": "5%"}, {"weight": "100%"}])


class Planted(Street):
    """A street with secrets in every place where a shop has some."""

    def __init__(self, path: Path) -> None:
        super().__init__(policy=STEADY, audit=f"file:{path}")
        self.hands = build_hands(self.cluster, self.clock, self.shop, self.setting)
        self.telemetry = Telemetry(self.clock, "1.2.3", "")
        teller = Teller(self.hands, Couriers({}), lambda _: [], place=Place("lab"))
        self.controller = Controller(self.hands, teller, watcher=self.telemetry)

    def push_secrets(self, bug: dict[str, str]) -> None:
        body: dict[str, Any] = manifests.change(manifests.NEW, PORT, {**bug, "PAY_TOKEN": "planted-env"})
        body["metadata"]["annotations"] |= {
            LAST_APPLIED: "planted-annotation",
            "team/key": "planted-annotation",
        }
        container = body["spec"]["template"]["spec"]["containers"][0]
        container["args"] = ["--token", "planted-argument"]
        template = body["spec"]["template"]["metadata"]
        template["annotations"] = {**template.get("annotations", {}), "team/key": "planted-annotation"}
        self.admin.merge_patch(CHECKOUT, body, intent=Intent.NEUTRAL)

    def own_objects(self) -> str:
        """Return everything that is ours in the cluster, as stored; templates stay what the user wrote."""
        store = self.cluster.store
        found = [obj for kind in OWN_KINDS for obj in store.select(store.kinds.named(kind))]
        return json.dumps(found, default=str)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.mark.parametrize(("bug", "end"), [({}, Phase.PROMOTED), (COLLAPSE, Phase.ROLLED_BACK)])
def test_no_planted_value_is_in_a_log_an_event_a_status_a_record_or_a_page(
    bug: dict[str, str],
    end: Phase,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    street, pages = Planted(path), list[Page]()
    street.push_secrets(bug)
    assert street.run_until(lambda: street.route_ppm() > 0, 60), street.told()
    street.ask(Verb.HOLD)
    street.run_for(5)
    street.ask(Verb.RESUME)
    street.until(end).tidied()
    bypass(street, pages)
    assert main(["audit", "export", "--audit", f"file:{path}", "-o", "csv"]) == 0
    outputs = {
        "log": caplog.text,
        "our objects": street.own_objects(),
        "audit": path.read_text(),
        "pages": str(pages),
        "metrics": street.telemetry.exposition().decode(),
        "command line": capsys.readouterr().out,
    }
    assert all(outputs.values()), {name: len(text) for name, text in outputs.items()}
    assert "Event" in outputs["our objects"]
    found = {(name, value) for name, text in outputs.items() for value in PLANTED if value in text}
    assert not found
    assert "containers[shop].args" in outputs["audit"]


def bypass(street: Planted, pages: list[Page]) -> None:
    """Let somebody go round the hold with a secret in the template, and sweep."""
    lee = Client(
        InProcessTransport(ApiServer(street.cluster.store), User("lee", ("system:masters",))),
        clock=street.clock,
    )
    inventory = Inventory(
        street.hands, FileStore(Path(street.setting.audit[5:])), pages.append, cluster="lab", namespace=None
    )
    assert inventory.sweep()
    body = manifests.change("v6.6.6", PORT, {"PAY_TOKEN": "planted-env"})
    metadata = {"annotations": {Mark.BREAK_GLASS.value: "INC-481 pay hotfix, verified by hand"}}
    patch = {"metadata": metadata, "spec": {**body["spec"], "paused": False}}
    lee.merge_patch(CHECKOUT, patch, intent=Intent.NEUTRAL)
    for _ in range(60):
        street.cluster.controllers.step()
        street.clock.run_for(0.5)
    assert inventory.sweep()
    assert pages
