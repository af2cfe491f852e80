"""What may befall one received file, and the one sentence that says so.

This module owns the outcomes (for counting), the finer reasons (for explaining), their English sentences, and
:class:`RejectedFile`, the only exception with which `imaging` refuses a file. The sentences are templates with
``%(name)s`` places filled from `RejectedFile.detail`, so that another layer can translate them by their English text.
It refuses to carry file names or anything read from a person's record: those never stand in a detail.
"""

# ruff: noqa: E501 - one sentence a line reads and translates better than wrapped strings
from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias


class Outcome(StrEnum):
    """What became of a file; every received file has exactly one."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    NO_PIXELS = "no_pixels"
    UNSUPPORTED = "unsupported"
    UNREADABLE = "unreadable"
    OVER_LIMIT = "over_limit"
    UNSAFE_NAME = "unsafe_name"
    UNSAFE = "unsafe"
    ENCRYPTED = "encrypted"


class Reason(StrEnum):
    """Why a file has its outcome."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    # ignored
    DICOMDIR = "dicomdir"
    SYSTEM_FILE = "system_file"
    # empty
    EMPTY_FILE = "empty_file"
    EMPTY_ARCHIVE = "empty_archive"
    EMPTY_FOLDER = "empty_folder"
    # not_an_image
    TEXT = "text"
    OTHER_FORMAT = "other_format"
    UNKNOWN_CONTENT = "unknown_content"
    # no_pixels
    NO_PIXEL_DATA = "no_pixel_data"
    # unsupported
    IMAGE_FORMAT = "image_format"
    ARCHIVE_FORMAT = "archive_format"
    ANIMATED = "animated"
    PIXEL_FORMAT = "pixel_format"
    MODALITY = "modality"
    TRANSFER_SYNTAX = "transfer_syntax"
    NOT_DEIDENTIFIABLE = "not_deidentifiable"
    BURNED_IN_TEXT = "burned_in_text"
    ZIP_METHOD = "zip_method"
    # unreadable
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    DICOM_MALFORMED = "dicom_malformed"
    DICOM_VALUE = "dicom_value"
    DICOM_UID = "dicom_uid"
    PIXEL_DATA_SHORT = "pixel_data_short"
    FRAME_MISMATCH = "frame_mismatch"
    FRAME_MISSING = "frame_missing"
    ARCHIVE_DAMAGED = "archive_damaged"
    ENTRY_DAMAGED = "entry_damaged"
    FILE_MISSING = "file_missing"
    FILE_ACCESS = "file_access"
    DECODER_CRASHED = "decoder_crashed"
    # over_limit
    FILE_BYTES = "file_bytes"
    PICTURE_SIZE = "picture_size"
    FRAMES = "frames"
    DECODED_BYTES = "decoded_bytes"
    INFLATED_BYTES = "inflated_bytes"
    METADATA_BYTES = "metadata_bytes"
    SEQUENCE_DEPTH = "sequence_depth"
    MEMORY = "memory"
    DECODER_MEMORY = "decoder_memory"
    DECODER_TIME = "decoder_time"
    ZIP_ENTRIES = "zip_entries"
    ZIP_DIRECTORY = "zip_directory"
    ZIP_MEMBER_BYTES = "zip_member_bytes"
    ZIP_TOTAL_BYTES = "zip_total_bytes"
    ZIP_RATIO = "zip_ratio"
    ZIP_DEPTH = "zip_depth"
    # unsafe_name
    NAME_ESCAPES = "name_escapes"
    NAME_CHARACTERS = "name_characters"
    NAME_LENGTH = "name_length"
    # unsafe
    LINK = "link"
    SPECIAL_FILE = "special_file"
    OVERLAP = "overlap"
    DISGUISED = "disguised"
    # encrypted
    ENCRYPTED = "encrypted"


_BY_OUTCOME: Mapping[Outcome, tuple[Reason, ...]] = {
    Outcome.ACCEPTED: (Reason.ACCEPTED,),
    Outcome.DUPLICATE: (Reason.DUPLICATE,),
    Outcome.IGNORED: (Reason.DICOMDIR, Reason.SYSTEM_FILE),
    Outcome.EMPTY: (Reason.EMPTY_FILE, Reason.EMPTY_ARCHIVE, Reason.EMPTY_FOLDER),
    Outcome.NOT_AN_IMAGE: (Reason.TEXT, Reason.OTHER_FORMAT, Reason.UNKNOWN_CONTENT),
    Outcome.NO_PIXELS: (Reason.NO_PIXEL_DATA,),
    Outcome.UNSUPPORTED: (
        Reason.IMAGE_FORMAT,
        Reason.ARCHIVE_FORMAT,
        Reason.ANIMATED,
        Reason.PIXEL_FORMAT,
        Reason.MODALITY,
        Reason.TRANSFER_SYNTAX,
        Reason.NOT_DEIDENTIFIABLE,
        Reason.BURNED_IN_TEXT,
        Reason.ZIP_METHOD,
    ),
    Outcome.UNREADABLE: (
        Reason.TRUNCATED,
        Reason.DAMAGED,
        Reason.DICOM_MALFORMED,
        Reason.DICOM_VALUE,
        Reason.DICOM_UID,
        Reason.PIXEL_DATA_SHORT,
        Reason.FRAME_MISMATCH,
        Reason.FRAME_MISSING,
        Reason.ARCHIVE_DAMAGED,
        Reason.ENTRY_DAMAGED,
        Reason.FILE_MISSING,
        Reason.FILE_ACCESS,
        Reason.DECODER_CRASHED,
    ),
    Outcome.OVER_LIMIT: (
        Reason.FILE_BYTES,
        Reason.PICTURE_SIZE,
        Reason.FRAMES,
        Reason.DECODED_BYTES,
        Reason.INFLATED_BYTES,
        Reason.METADATA_BYTES,
        Reason.SEQUENCE_DEPTH,
        Reason.MEMORY,
        Reason.DECODER_MEMORY,
        Reason.DECODER_TIME,
        Reason.ZIP_ENTRIES,
        Reason.ZIP_DIRECTORY,
        Reason.ZIP_MEMBER_BYTES,
        Reason.ZIP_TOTAL_BYTES,
        Reason.ZIP_RATIO,
        Reason.ZIP_DEPTH,
    ),
    Outcome.UNSAFE_NAME: (Reason.NAME_ESCAPES, Reason.NAME_CHARACTERS, Reason.NAME_LENGTH),
    Outcome.UNSAFE: (Reason.LINK, Reason.SPECIAL_FILE, Reason.OVERLAP, Reason.DISGUISED),
    Outcome.ENCRYPTED: (Reason.ENCRYPTED,),
}

OUTCOME_OF: Mapping[Reason, Outcome] = MappingProxyType(
    {reason: outcome for outcome, reasons in _BY_OUTCOME.items() for reason in reasons}
)

SENTENCES: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.ACCEPTED: "Accepted.",
        Reason.DUPLICATE: "This file has the same content as one already received with it, so it is analysed only once.",
        Reason.DICOMDIR: "This is a DICOMDIR, the table of contents of a disc; it holds no image and nothing needs to be done.",
        Reason.SYSTEM_FILE: "This is a file that a computer system leaves in folders (%(found)s); it holds no image and nothing needs to be done.",
        Reason.EMPTY_FILE: "This file is empty (0 bytes); export or copy it again.",
        Reason.EMPTY_ARCHIVE: "This zip archive holds no file; pack the study again and send it once more.",
        Reason.EMPTY_FOLDER: "This folder holds no file; choose the folder that holds the images.",
        Reason.TEXT: "This is a text file, whatever its name says; send DICOM, PNG, JPEG, TIFF or BMP images.",
        Reason.OTHER_FORMAT: "This is %(found)s, not an image that can be read; send DICOM, PNG, JPEG, TIFF or BMP images.",
        Reason.UNKNOWN_CONTENT: "The content of this file is of no known format; send DICOM, PNG, JPEG, TIFF or BMP images.",
        Reason.NO_PIXEL_DATA: "This DICOM object (%(found)s) holds no picture; send the image series of the study.",
        Reason.IMAGE_FORMAT: "This is a picture in the format %(found)s, which is not read; save it as DICOM, PNG, JPEG, TIFF or BMP.",
        Reason.ARCHIVE_FORMAT: "This is an archive in the format %(found)s, which is not opened; pack the study as a zip without a password.",
        Reason.ANIMATED: "This is an animated picture of %(frames)s frames; send each slice as a picture of its own.",
        Reason.PIXEL_FORMAT: "The pixels of this picture are stored in a form that is not read (%(found)s); save it with 8 or 16 bits, grey or colour.",
        Reason.MODALITY: "This DICOM image is of modality %(found)s; only %(accepted)s is analysed.",
        Reason.TRANSFER_SYNTAX: "This DICOM image is stored in the transfer syntax %(found)s, which is not read; export it uncompressed, or as JPEG, JPEG-LS, JPEG 2000 or RLE.",
        Reason.NOT_DEIDENTIFIABLE: "This picture (%(found)s) is of a form from which what else the file says cannot be taken out; save it as PNG.",
        Reason.BURNED_IN_TEXT: "A name may be written into the pixels of this image (its header says so, it is a secondary capture, or letters were seen in it), and files are de-identified here; send the scanner's own images.",
        Reason.ZIP_METHOD: "This archive entry is packed by method %(found)s, which is not opened; pack the study as an ordinary zip (deflate).",
        Reason.TRUNCATED: "This %(found)s file ends too early, a part of the picture is missing; export or copy it again.",
        Reason.DAMAGED: "This %(found)s file is damaged and cannot be read in full; export or copy it again.",
        Reason.DICOM_MALFORMED: "This DICOM file is malformed and cannot be read; export it from the archive again.",
        Reason.DICOM_VALUE: "This DICOM image gives an impossible value for %(attribute)s; export it from the archive again.",
        Reason.DICOM_UID: "This DICOM image gives a malformed identifier for %(attribute)s (digits and dots are allowed, at most 64); export it from the archive again.",
        Reason.PIXEL_DATA_SHORT: "This DICOM image announces %(announced)s bytes of pixels but holds %(found)s; export it from the archive again.",
        Reason.FRAME_MISMATCH: "This DICOM image announces pictures of %(announced)s pixels but holds one of %(found)s; export it from the archive again.",
        Reason.FRAME_MISSING: "Frame %(frame)s was asked for, but this file has %(frames)s, counted from 0.",
        Reason.ARCHIVE_DAMAGED: "This zip archive is damaged or incomplete and cannot be opened; pack it again and send it once more.",
        Reason.ENTRY_DAMAGED: "This archive entry is damaged and cannot be unpacked; pack the study again and send it once more.",
        Reason.FILE_MISSING: "There is no file or folder of this name; check the path.",
        Reason.FILE_ACCESS: "This file could not be opened (%(found)s); check that it may be read and is not in use.",
        Reason.DECODER_CRASHED: "The program that reads files crashed on this one (%(found)s), which happens with damaged files; export or copy it again.",
        Reason.FILE_BYTES: "This file has %(found)s bytes, more than the %(limit)s allowed; send a smaller file or ask the administrator to raise the limit.",
        Reason.PICTURE_SIZE: "This picture is %(columns)s x %(rows)s pixels; at most %(max_side)s on a side and %(max_pixels)s in all are allowed; send the slice at its original size.",
        Reason.FRAMES: "This file has %(found)s frames, more than the %(limit)s allowed; send the series in smaller files.",
        Reason.DECODED_BYTES: "The frames of this file need %(found)s bytes of memory, more than the %(limit)s allowed; send the series in smaller files.",
        Reason.INFLATED_BYTES: "This compressed DICOM file unpacks to more than the %(limit)s bytes allowed; export it without deflate compression.",
        Reason.METADATA_BYTES: "The text stored inside this %(found)s file unpacks to more than is allowed; save the picture again without comments.",
        Reason.SEQUENCE_DEPTH: "The sequences of this DICOM file are nested deeper than the %(limit)s levels allowed; export it from the archive again.",
        Reason.MEMORY: "There was not enough memory to read this file; send a smaller file.",
        Reason.DECODER_MEMORY: "Reading this file needed more than the %(limit)s bytes of memory allowed; send a smaller file, or the series in smaller files.",
        Reason.DECODER_TIME: "Reading this file took longer than the %(limit)s seconds allowed; export it again, uncompressed if possible.",
        Reason.ZIP_ENTRIES: "This zip archive has more than the %(limit)s entries allowed; send the study in several archives.",
        Reason.ZIP_DIRECTORY: "The table of contents of this zip archive has %(found)s bytes, more than the %(limit)s allowed; send the study in several archives.",
        Reason.ZIP_MEMBER_BYTES: "This archive entry unpacks to more than the %(limit)s bytes allowed; send a smaller file.",
        Reason.ZIP_TOTAL_BYTES: "This archive unpacks to more than the %(limit)s bytes allowed in all, and this entry was not unpacked; send the study in several archives.",
        Reason.ZIP_RATIO: "This archive entry unpacks to more than %(limit)s times its packed size, as no image does; pack the study again.",
        Reason.ZIP_DEPTH: "This archive lies inside more than the %(limit)s levels of archives allowed; unpack the inner archives first.",
        Reason.NAME_ESCAPES: "The name of this archive entry points outside the archive (absolute, with .. or with a drive letter); pack the study folder again.",
        Reason.NAME_CHARACTERS: "The name of this archive entry holds a backslash or a control character; rename the file and pack the study again.",
        Reason.NAME_LENGTH: "The name of this archive entry is %(found)s characters long, more than the %(limit)s allowed; shorten it and pack the study again.",
        Reason.LINK: "This is a link to another file, and links are not followed; send the file itself.",
        Reason.SPECIAL_FILE: "This is a device, a pipe or a socket, not a file; send DICOM, PNG, JPEG, TIFF or BMP images.",
        Reason.OVERLAP: "This archive entry shares its bytes with another entry, as no ordinary archive does; pack the study again.",
        Reason.DISGUISED: "This file is two things at once: a DICOM image and %(found)s; export it from the archive again.",
        Reason.ENCRYPTED: "This archive entry is protected by a password; pack the study as a zip without a password.",
    }
)

DetailValue: TypeAlias = str | int | float


def sentence(reason: Reason, detail: Mapping[str, DetailValue]) -> str:
    """Fill the English sentence of a reason.

    Args:
        reason: Why a file has its outcome.
        detail: The facts for the places of the template.

    Returns:
        One plain sentence.
    """
    return SENTENCES[reason] % detail


class RejectedFile(Exception):
    """A file that somebody sent cannot be used; nothing is wrong with the system.

    Args:
        reason: Why.
        **detail: Short machine-readable facts for the sentence; never a file name, never identity.

    Attributes:
        reason: Why.
        outcome: The outcome that the reason counts as.
        detail: The facts.
    """

    def __init__(self, reason: Reason, **detail: DetailValue) -> None:
        """Check at once that the facts fill the sentence."""
        self.reason = reason
        self.outcome = OUTCOME_OF[reason]
        self.detail: dict[str, DetailValue] = detail
        super().__init__(sentence(reason, detail))


def access_rejection(error: OSError) -> RejectedFile:
    """Say why a file could not be opened, without its name.

    Args:
        error: What the operating system said.
    """
    if isinstance(error, FileNotFoundError):
        return RejectedFile(Reason.FILE_MISSING)
    return RejectedFile(Reason.FILE_ACCESS, found=os.strerror(error.errno) if error.errno else "unknown error")
