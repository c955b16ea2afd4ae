"""What can go wrong between here and the hub, sorted into errors of ours, one line each."""

import ssl

from demo_bert.downloads import without_credentials
from demo_bert.errors import DemoBertError, NetworkError, UnreachableError

_MEANINGS = {
    401: "not authorised: there is no such repository, or it is private; check the name, and"
    " HF_TOKEN where it is private",
    403: "forbidden: accept the repository's conditions on the hub, or give HF_TOKEN the right",
    404: "not there: check the name, the revision and HF_ENDPOINT",
    429: "asked too often; wait a while and run it again",
}


def refusal(
    what: str, status: int, *, endpoint: str, refused: type[DemoBertError]
) -> DemoBertError:
    """The error for an answer with an error status.

    Args:
        what: What was asked for, in words.
        status: The HTTP status, 400 or more.
        endpoint: The hub's address, without credentials.
        refused: The class for 401, 403 and 404.

    Returns:
        The error, to be raised.
    """
    meaning = _MEANINGS.get(status)
    if meaning is None:
        meaning = "the hub has a fault; run it again later" if status >= 500 else "not understood"
    kind = refused if status in (401, 403, 404) else NetworkError
    return kind(f"{what}: {endpoint} answers {status} ({meaning})")


def no_answer(what: str, error: Exception, *, endpoint: str) -> NetworkError:
    """The error for a request that got no answer.

    Args:
        what: What was asked for, in words.
        error: What the HTTP library raised.
        endpoint: The hub's address, without credentials.

    Returns:
        `UnreachableError`; `NetworkError` where somebody is there whose certificate is not
        accepted.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(cause):
            return NetworkError(
                f"{what}: the certificate of {endpoint} is not accepted ({reason(error)});"
                " SSL_CERT_FILE names another set of certificates"
            )
        cause = cause.__cause__ or cause.__context__
    return UnreachableError(f"{what}: {endpoint} cannot be reached ({reason(error)})")


def broke_off(what: str, error: Exception, *, endpoint: str) -> NetworkError:
    """The error for a download that began and did not end.

    Args:
        what: What was fetched, in words.
        error: What the hub's library raised.
        endpoint: The hub's address, without credentials.

    Returns:
        The error, to be raised.
    """
    why = reason(error.__cause__ or error)
    return NetworkError(f"{what}: the download from {endpoint} broke off ({why}); run it again")


def not_a_hub(what: str, *, endpoint: str) -> NetworkError:
    """The error for an answer that no hub gives.

    Args:
        what: What was asked for, in words.
        endpoint: The hub's address, without credentials.

    Returns:
        The error, to be raised.
    """
    return NetworkError(
        f"{what}: what answers at {endpoint} is not a hub (a network's sign-in page, a proxy?);"
        " check the network and HF_ENDPOINT"
    )


def reason(error: BaseException) -> str:
    """An error's message, short and safe to show.

    Args:
        error: Any error.

    Returns:
        Its first line without credentials, or the name of its class.
    """
    text = without_credentials(str(error)).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__
