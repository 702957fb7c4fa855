// The bytes of a data image: the schedule of one kernel as the device and the
// host executor read it. Also compiled for the device (NVRTC): no includes.
//
//   ScheduleHeader | RowEntry[heads * query_blocks] | u32 words[]
//
// All fields are little-endian; every section starts at a multiple of 16.
// Key blocks are visited in *descending* order, so that a kept tail block (the
// only one that needs a mask) is always the first visit of its row.
#pragma once

namespace calibatt {

/// How a schedule is baked into a kernel, from most to least unrolled.
enum class Form : unsigned char {
  Full = 0,     ///< loads and MMA steps straight-line, no data image
  Schedule = 1, ///< runs are immediates of the code, steps and loads in loops, no data image
  Runs = 2,     ///< data image, words are runs (see packRun)
  Table = 3,    ///< data image, words are bitmap rows
};

/// As users and reports call it.
constexpr const char *formName(Form form) {
  switch (form) {
  case Form::Full:
    return "full";
  case Form::Schedule:
    return "schedule";
  case Form::Runs:
    return "runs";
  case Form::Table:
    return "table";
  }
  return "unknown";
}

/// First 64 bytes of a data image.
struct ScheduleHeader {
  unsigned magic;        ///< kScheduleMagic
  unsigned version;      ///< kScheduleVersion
  unsigned form;         ///< Form::Runs or Form::Table
  unsigned heads;        ///< heads covered (1 for --granularity head)
  unsigned query_blocks; ///< rows per head
  unsigned key_blocks;   ///< columns; block 128, the last may be a tail
  unsigned tokens;       ///< sequence length
  unsigned rows_offset;  ///< bytes from the image start to the RowEntry array
  unsigned words_offset; ///< bytes from the image start to the words
  unsigned word_count;   ///< number of words
  unsigned visits;       ///< sum of visits over all rows (< 2^32)
  unsigned grid_height;  ///< AnchorGrid of the repetitive heads; all zero where there is none
  unsigned grid_width;
  unsigned anchors;
  unsigned reserved[2]; ///< zero
};

/// One row (query block) of one head: heads-major, row = head * query_blocks + q.
/// Equal rows share their words. A row of a repetitive head is a tile of packed
/// anchor queries (AnchorLayout.h); of its rows the first packedTiles() exist, the
/// entries of the others are zero.
struct RowEntry {
  unsigned begin;        ///< index of the first word
  unsigned short words;  ///< runs of the row (Runs), words of the bitmap (Table)
  unsigned short visits; ///< key blocks visited, 1..16383 | kRowStartsWithTail | kRowIsPacked
};

constexpr unsigned kScheduleMagic = 0x53414331u; // "1CAS"
constexpr unsigned kScheduleVersion = 1;
constexpr unsigned kBlock = 128;
/// Set in RowEntry::visits when the first visit is the tail block of the keys.
constexpr unsigned kRowStartsWithTail = 0x8000u;
/// Set in RowEntry::visits of a row of a repetitive head.
constexpr unsigned kRowIsPacked = 0x4000u;
constexpr unsigned kRowVisitsMask = 0x3FFFu;

/// The row classes of an unrolled kernel's text, 16 bits a row: the number of the
/// class, with a flag where the row is one of packed anchor queries, or absent.
constexpr unsigned kEmittedPackedRow = 0x8000u;
constexpr unsigned kEmittedAbsentRow = 0xFFFFu;
constexpr unsigned kMaxEmittedClasses = 0x7FFFu;

/// A run covers `blocks` blocks of 128 keys from token `token_start` on; it is
/// walked from its last block to its first, and the runs of a row are stored
/// from the highest token to the lowest.
constexpr unsigned kRunTokenBits = 22;
constexpr unsigned kMaxRunBlocks = (1u << (32 - kRunTokenBits)) - 1;
constexpr unsigned packRun(unsigned token_start, unsigned blocks) {
  return token_start | (blocks << kRunTokenBits);
}
constexpr unsigned runTokenStart(unsigned run) { return run & ((1u << kRunTokenBits) - 1); }
constexpr unsigned runBlocks(unsigned run) { return run >> kRunTokenBits; }

/// One query tile of a launch, made by the session from the kernel's tile order:
/// row | head << 12 | batch << 20.
constexpr unsigned packWork(unsigned row, unsigned head, unsigned batch) {
  return row | (head << 12) | (batch << 20);
}
constexpr unsigned workRow(unsigned w) { return w & 0xFFFu; }
constexpr unsigned workHead(unsigned w) { return (w >> 12) & 0xFFu; }
constexpr unsigned workBatch(unsigned w) { return w >> 20; }
constexpr unsigned kMaxRows = 1u << 12;
constexpr unsigned kMaxHeads = 1u << 8;
constexpr unsigned kMaxBatch = 1u << 12;

/// The symbol of a code image that holds the schedule when no pointer is
/// passed: `inspect extract` writes a data image there to make a stand-alone
/// cubin. Its size is a size class, 4 KiB * 4^n.
#define CALIBATT_SCHEDULE_SYMBOL "calibatt_schedule"

} // namespace calibatt
