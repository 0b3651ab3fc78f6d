from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from ... import errors
from ...client import AuthenticatedClient, Client
from ...models.error_response import ErrorResponse
from ...models.task_response import TaskResponse
from ...types import UNSET, Response, Unset


def _get_kwargs(
    bucket_identifier: str,
    batch_id: str,
    *,
    x_namespace: None | str | Unset = UNSET,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if not isinstance(x_namespace, Unset):
        headers["X-Namespace"] = x_namespace

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/v1/buckets/{bucket_identifier}/batches/{batch_id}/cancel".format(
            bucket_identifier=quote(str(bucket_identifier), safe=""),
            batch_id=quote(str(batch_id), safe=""),
        ),
    }

    _kwargs["headers"] = headers
    return _kwargs


def _parse_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> ErrorResponse | TaskResponse | None:
    if response.status_code == 200:
        response_200 = TaskResponse.from_dict(response.json())

        return response_200

    if response.status_code == 400:
        response_400 = ErrorResponse.from_dict(response.json())

        return response_400

    if response.status_code == 401:
        response_401 = ErrorResponse.from_dict(response.json())

        return response_401

    if response.status_code == 403:
        response_403 = ErrorResponse.from_dict(response.json())

        return response_403

    if response.status_code == 404:
        response_404 = ErrorResponse.from_dict(response.json())

        return response_404

    if response.status_code == 422:
        response_422 = ErrorResponse.from_dict(response.json())

        return response_422

    if response.status_code == 429:
        response_429 = ErrorResponse.from_dict(response.json())

        return response_429

    if response.status_code == 500:
        response_500 = ErrorResponse.from_dict(response.json())

        return response_500

    if response.status_code == 503:
        response_503 = ErrorResponse.from_dict(response.json())

        return response_503

    if client.raise_on_unexpected_status:
        raise errors.UnexpectedStatus(response.status_code, response.content)
    else:
        return None


def _build_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Response[ErrorResponse | TaskResponse]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    bucket_identifier: str,
    batch_id: str,
    *,
    client: AuthenticatedClient | Client,
    x_namespace: None | str | Unset = UNSET,
) -> Response[ErrorResponse | TaskResponse]:
    """Cancel Batch

     Stops the processing of a batch and sets its task to CANCELED. Outputs produced so far are kept.
    Cancelling is idempotent: for a batch that is already cancelled, the same task is returned again.

    Args:
        bucket_identifier (str):
        batch_id (str):
        x_namespace (None | str | Unset):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorResponse | TaskResponse]
    """

    kwargs = _get_kwargs(
        bucket_identifier=bucket_identifier,
        batch_id=batch_id,
        x_namespace=x_namespace,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    bucket_identifier: str,
    batch_id: str,
    *,
    client: AuthenticatedClient | Client,
    x_namespace: None | str | Unset = UNSET,
) -> ErrorResponse | TaskResponse | None:
    """Cancel Batch

     Stops the processing of a batch and sets its task to CANCELED. Outputs produced so far are kept.
    Cancelling is idempotent: for a batch that is already cancelled, the same task is returned again.

    Args:
        bucket_identifier (str):
        batch_id (str):
        x_namespace (None | str | Unset):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorResponse | TaskResponse
    """

    return sync_detailed(
        bucket_identifier=bucket_identifier,
        batch_id=batch_id,
        client=client,
        x_namespace=x_namespace,
    ).parsed


async def asyncio_detailed(
    bucket_identifier: str,
    batch_id: str,
    *,
    client: AuthenticatedClient | Client,
    x_namespace: None | str | Unset = UNSET,
) -> Response[ErrorResponse | TaskResponse]:
    """Cancel Batch

     Stops the processing of a batch and sets its task to CANCELED. Outputs produced so far are kept.
    Cancelling is idempotent: for a batch that is already cancelled, the same task is returned again.

    Args:
        bucket_identifier (str):
        batch_id (str):
        x_namespace (None | str | Unset):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorResponse | TaskResponse]
    """

    kwargs = _get_kwargs(
        bucket_identifier=bucket_identifier,
        batch_id=batch_id,
        x_namespace=x_namespace,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    bucket_identifier: str,
    batch_id: str,
    *,
    client: AuthenticatedClient | Client,
    x_namespace: None | str | Unset = UNSET,
) -> ErrorResponse | TaskResponse | None:
    """Cancel Batch

     Stops the processing of a batch and sets its task to CANCELED. Outputs produced so far are kept.
    Cancelling is idempotent: for a batch that is already cancelled, the same task is returned again.

    Args:
        bucket_identifier (str):
        batch_id (str):
        x_namespace (None | str | Unset):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorResponse | TaskResponse
    """

    return (
        await asyncio_detailed(
            bucket_identifier=bucket_identifier,
            batch_id=batch_id,
            client=client,
            x_namespace=x_namespace,
        )
    ).parsed
