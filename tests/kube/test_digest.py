"""The template hash: what changes it, and what must not."""

import random
from typing import Any

from canary.kube.digest import template_hash

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "checkout"}, "annotations": {"note": "é"}},
    "spec": {"containers": [{"name": "shop", "image": "shop:1", "env": [{"name": "A", "value": "1"}]}]},
}


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: shuffled(value[key], chance) for key in keys}
    return [shuffled(inner, chance) for inner in value] if isinstance(value, list) else value


def test_the_hash_is_pinned_so_that_stored_records_stay_valid():
    assert (
        template_hash(TEMPLATE) == "sha256:b2488a63e1aec26f349603bc10fa37bc7e7124cf8c918ed98bec3d52613e4a85"
    )


def test_the_order_of_keys_does_not_matter():
    chance = random.Random(3)
    assert {template_hash(shuffled(TEMPLATE, chance)) for _ in range(20)} == {template_hash(TEMPLATE)}


def test_what_controllers_and_defaulting_add_does_not_matter():
    metadata = {**TEMPLATE["metadata"], "creationTimestamp": None}
    metadata["labels"] = {**metadata["labels"], "pod-template-hash": "abc"}
    assert template_hash({**TEMPLATE, "metadata": metadata}) == template_hash(TEMPLATE)


def test_a_template_without_metadata_has_the_hash_of_one_with_empty_metadata():
    bare = {"spec": TEMPLATE["spec"]}
    assert template_hash(bare) == template_hash({**bare, "metadata": {"labels": {}, "annotations": {}}})
    assert template_hash(bare) == template_hash({**bare, "metadata": None})


def test_every_change_that_makes_other_pods_makes_another_hash():
    hashes = {template_hash(TEMPLATE)}
    for metadata in (
        {"labels": {"app": "other"}},
        {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}},
    ):
        hashes.add(template_hash({**TEMPLATE, "metadata": {**TEMPLATE["metadata"], **metadata}}))
    for container in ({"image": "shop:2"}, {"env": []}, {"env": [{"name": "A", "value": "2"}]}):
        shop = {**TEMPLATE["spec"]["containers"][0], **container}
        hashes.add(template_hash({**TEMPLATE, "spec": {"containers": [shop]}}))
    hashes.add(template_hash({**TEMPLATE, "spec": {**TEMPLATE["spec"], "hostNetwork": False}}))
    assert len(hashes) == 7
