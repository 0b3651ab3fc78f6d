from __future__ import annotations

from enum import StrEnum


class TaskType(StrEnum):
    """The kind of work that a task does.

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
    """

    API_NAMESPACES_CREATE = "api_namespaces_create"
    API_BUCKETS_OBJECTS_CREATE = "api_buckets_objects_create"
    API_BUCKETS_DELETE = "api_buckets_delete"
    API_BUCKETS_BATCHES_PROCESS = "api_buckets_batches_process"
    API_TAXONOMIES_CREATE = "api_taxonomies_create"
    API_TAXONOMIES_EXECUTE = "api_taxonomies_execute"
    API_TAXONOMIES_MATERIALIZE = "api_taxonomies_materialize"
    ENGINE_FEATURE_EXTRACTOR_RUN = "engine_feature_extractor_run"
    ENGINE_INFERENCE_RUN = "engine_inference_run"
    ENGINE_OBJECT_PROCESSING = "engine_object_processing"
    ENGINE_CLUSTER_BUILD = "engine_cluster_build"
    THUMBNAIL = "thumbnail"
    MATERIALIZE = "materialize"

    @classmethod
    def _missing_(cls, value: object) -> TaskType | None:
        """Return a member for a value that the contract lacks, so that a newer server breaks no client."""
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member
