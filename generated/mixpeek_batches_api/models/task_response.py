from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.task_status import TaskStatus
from ..models.task_type import TaskType
from ..types import UNSET, Unset

T = TypeVar("T", bound="TaskResponse")


@_attrs_define
class TaskResponse:
    """The state of a task, the unit of work that the API runs in the background.

    Attributes:
        task_id (str): The identifier of the task.
        task_type (TaskType): The kind of work that a task does.

            - `api_namespaces_create`: creates a namespace.
            - `api_buckets_objects_create`: adds objects to a bucket.
            - `api_buckets_delete`: deletes a bucket and its contents.
            - `api_buckets_batches_process`: processes the objects of a batch; the type of the task of every batch.
            - `api_taxonomies_create`: creates a taxonomy.
            - `api_taxonomies_execute`: classifies documents with a taxonomy.
            - `api_taxonomies_materialize`: stores the results of a taxonomy.
            - `engine_feature_extractor_run`: extracts features from objects.
            - `engine_inference_run`: runs inference with a model.
            - `engine_object_processing`: processes an object in the engine.
            - `engine_cluster_build`: groups documents into clusters.
            - `thumbnail`: creates thumbnails.
            - `materialize`: materializes processed data.
        status (TaskStatus): The status of a task.

            - `PENDING`: accepted, waiting to start.
            - `IN_PROGRESS`: started and not yet finished.
            - `PROCESSING`: its inputs are being processed.
            - `COMPLETED`: finished successfully.
            - `FAILED`: finished with an error.
            - `CANCELED`: cancelled before it finished.
            - `UNKNOWN`: the status cannot be determined.
            - `SKIPPED`: intentionally not run.
            - `DRAFT`: created and not yet submitted.
        inputs (list[str | TaskInput] | Unset): The inputs of the task.
        outputs (list[str | TaskOutput] | Unset): The outputs that the task has produced so far.
        additional_data (None | TaskAdditionalData | Unset): Additional data about the task, or null.
        error_message (None | str | Unset): Why the task failed, derived from `error` in `additional_data`; null if
            there is none.
    """

    task_id: str
    task_type: TaskType
    status: TaskStatus
    inputs: list[str | TaskInput] | Unset = UNSET
    outputs: list[str | TaskOutput] | Unset = UNSET
    additional_data: None | TaskAdditionalData | Unset = UNSET
    error_message: None | str | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        task_id = self.task_id

        task_type = self.task_type.value

        status = self.status.value

        inputs: list[dict[str, Any] | str] | Unset
        if isinstance(self.inputs, list):
            inputs = []
            for inputs_item_data in self.inputs:
                inputs_item: dict[str, Any] | str
                if isinstance(inputs_item_data, TaskInput):
                    inputs_item = inputs_item_data.to_dict()
                else:
                    inputs_item = inputs_item_data
                inputs.append(inputs_item)
        else:
            inputs = self.inputs

        outputs: list[dict[str, Any] | str] | Unset
        if isinstance(self.outputs, list):
            outputs = []
            for outputs_item_data in self.outputs:
                outputs_item: dict[str, Any] | str
                if isinstance(outputs_item_data, TaskOutput):
                    outputs_item = outputs_item_data.to_dict()
                else:
                    outputs_item = outputs_item_data
                outputs.append(outputs_item)
        else:
            outputs = self.outputs

        additional_data: dict[str, Any] | None | Unset
        if isinstance(self.additional_data, Unset):
            additional_data = UNSET
        elif isinstance(self.additional_data, TaskAdditionalData):
            additional_data = self.additional_data.to_dict()
        else:
            additional_data = self.additional_data

        error_message: None | str | Unset
        if isinstance(self.error_message, Unset):
            error_message = UNSET
        else:
            error_message = self.error_message

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "task_id": task_id,
                "task_type": task_type,
                "status": status,
            }
        )
        if inputs is not UNSET:
            field_dict["inputs"] = inputs
        if outputs is not UNSET:
            field_dict["outputs"] = outputs
        if additional_data is not UNSET:
            field_dict["additional_data"] = additional_data
        if error_message is not UNSET:
            field_dict["error_message"] = error_message

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        task_id = d.pop("task_id")

        task_type = TaskType(d.pop("task_type"))

        status = TaskStatus(d.pop("status"))

        _inputs = d.pop("inputs", UNSET)
        inputs: list[str | TaskInput] | Unset = _inputs
        if isinstance(_inputs, list):
            inputs = []
            for inputs_item_data in _inputs:

                def _parse_inputs_item(data: object) -> str | TaskInput:
                    try:
                        if not isinstance(data, dict):
                            raise TypeError()
                        inputs_item_type_1 = TaskInput.from_dict(data)

                        return inputs_item_type_1
                    except (TypeError, ValueError, AttributeError, KeyError):
                        pass
                    return cast(str | TaskInput, data)

                inputs_item = _parse_inputs_item(inputs_item_data)

                inputs.append(inputs_item)

        _outputs = d.pop("outputs", UNSET)
        outputs: list[str | TaskOutput] | Unset = _outputs
        if isinstance(_outputs, list):
            outputs = []
            for outputs_item_data in _outputs:

                def _parse_outputs_item(data: object) -> str | TaskOutput:
                    try:
                        if not isinstance(data, dict):
                            raise TypeError()
                        outputs_item_type_1 = TaskOutput.from_dict(data)

                        return outputs_item_type_1
                    except (TypeError, ValueError, AttributeError, KeyError):
                        pass
                    return cast(str | TaskOutput, data)

                outputs_item = _parse_outputs_item(outputs_item_data)

                outputs.append(outputs_item)

        def _parse_additional_data(data: object) -> None | TaskAdditionalData | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                additional_data_type_0 = TaskAdditionalData.from_dict(data)

                return additional_data_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | TaskAdditionalData | Unset, data)

        additional_data = _parse_additional_data(d.pop("additional_data", UNSET))

        def _parse_error_message(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        error_message = _parse_error_message(d.pop("error_message", UNSET))

        task_response = cls(
            task_id=task_id,
            task_type=task_type,
            status=status,
            inputs=inputs,
            outputs=outputs,
            additional_data=additional_data,
            error_message=error_message,
        )

        task_response.additional_properties = d
        return task_response

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties


from ..models.task_additional_data import TaskAdditionalData
from ..models.task_input import TaskInput
from ..models.task_output import TaskOutput
