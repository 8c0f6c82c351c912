"""Reads captures (files, folders, pipes, interfaces, network senders) into batches of packets."""

from apptell.capture.batch import Owner, PacketBatch
from apptell.capture.capture_reader import CaptureReader
from apptell.capture.source import open_capture
from apptell.capture.stats import CaptureStats

__all__ = ["CaptureReader", "CaptureStats", "Owner", "PacketBatch", "open_capture"]
