"""Archives, datasets and trainings on a Ray cluster. Nothing else imports Ray.

A *stream* is the captures of one sensor in time order. One worker reads a whole stream, so that flows,
evidence and verdicts are exactly those of one process, and streams are shared among the workers.
"""

from __future__ import annotations

from apptell.cluster.archive_folder import ArchiveFolder
from apptell.cluster.ray_run import ArchiveReport, run_archive
from apptell.cluster.ray_source_reader import RaySourceReader
from apptell.cluster.ray_trainer import RayTrainer
from apptell.cluster.sensor_streams import SensorStream, find_streams
from apptell.cluster.stream_job import StreamJob, catalogue_files, model_files

__all__ = [
    "ArchiveFolder",
    "ArchiveReport",
    "RaySourceReader",
    "RayTrainer",
    "SensorStream",
    "StreamJob",
    "catalogue_files",
    "find_streams",
    "model_files",
    "run_archive",
]
