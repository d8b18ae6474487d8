"""What may serve: only what the deployer signed, under a grant of the governor's for these very bytes."""

from contracts import DeploymentChanged, Variant
from services.kit.errors import Forbidden
from services.kit.signing import KeyRing, canonical

_UNSIGNED = frozenset({"signature"})


def admit(change: DeploymentChanged, keys: KeyRing) -> None:
    """Check the deployer's signature and every version's grant. Raises Forbidden with the reason.

    A grant's expiry is not looked at: it bounds the start of a rollout, which is the deployer's; serving
    ends by another state of the endpoint, never by a clock.
    """
    check_speaker(change, keys)
    for variant in change.variants:
        _admit_variant(change, variant, keys)


def check_speaker(change: DeploymentChanged, keys: KeyRing) -> None:
    """Check that the deployer said it. Raises Forbidden.

    That is enough to believe what is withdrawn: an approval that was taken back never comes back, whatever else the
    state says and however old it is.
    """
    keys.verify(canonical(change, without=_UNSIGNED), change.signature, owner="deployer")


def _admit_variant(change: DeploymentChanged, variant: Variant, keys: KeyRing) -> None:
    statement = variant.grant.statement
    keys.verify(canonical(statement), variant.grant.signature, owner="governor")
    claims = {
        "endpoint": (statement.endpoint, change.endpoint),
        "use case": (statement.use_case, change.use_case),
        "model": (statement.model, variant.model),
        "version": (statement.version, variant.version),
        "digest": (statement.digest, variant.digest),
    }
    for name, (granted, wanted) in claims.items():
        if granted != wanted:
            raise Forbidden(f"the grant is for {name} {granted}, not for {wanted}")
