// Adding a prompt's record to the counts in place, so that a program killed at any
// moment neither loses it nor counts it twice.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <string>

namespace calibatt {

/// Of new counts written at a time: what the redo log takes of the disk, twice.
constexpr uint64_t kFoldPieceBytes = 64u << 20;

/// Folds in the record that waits beside the counts at `path`, from where a killed
/// run left off, and removes it; forgets records that were not finished. Does
/// nothing where no record waits. The caller holds the lock for writing. Returns
/// whether there was one.
///
/// What makes it safe: the record is whole before the first byte of the counts changes, and stays
/// until the last is on disk. Sites are added in pieces; each piece's new bytes go to a redo log
/// first, so that writing them again is harmless. The number of prompts, their ids and the mark
/// that a prompt is being folded in are the last piece.
Result<bool> foldWaitingPrompt(const std::string &path, uint64_t pieceBytes = kFoldPieceBytes);

/// Whether anything is left to do for foldWaitingPrompt().
bool hasWaitingPrompt(const std::string &path);

} // namespace calibatt
