// Builds, checks and decodes data images (ScheduleLayout.h) on the host.
#pragma once

#include "runtime/format/AnchorLayout.h"
#include "runtime/format/Result.h"
#include "runtime/format/ScheduleLayout.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace calibatt {

/// Row class of the rows that a repetitive head does not have.
constexpr uint32_t kAbsentRow = UINT32_MAX;

/// A schedule as lists: what every form, decoded, comes back to.
// The analyzer loses the value of a Result<Schedule> when it is taken.
// NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign)
struct Schedule {
  uint32_t tokens = 0;
  uint32_t heads = 0;
  uint32_t queryBlocks = 0, keyBlocks = 0;
  /// [heads * queryBlocks] row class of each row; kAbsentRow behind the packed tiles of a
  /// repetitive head.
  std::vector<uint32_t> rowClass;
  /// Key blocks of each class in visiting order: strictly descending, not empty.
  std::vector<std::vector<uint16_t>> classes;
  /// [heads] 1 where a head computes its anchor rows only; empty where none does.
  std::vector<uint8_t> repetitive = {};
  AnchorGrid grid = {}; ///< of the repetitive heads

  bool isRepetitive(uint32_t head) const { return !repetitive.empty() && repetitive[head]; }
  /// Rows of a head: its packed tiles where it is repetitive.
  uint32_t rowsOf(uint32_t head) const {
    return isRepetitive(head) ? packedTiles(grid, tokens) : queryBlocks;
  }
  /// The key blocks that the outputs of query block q come from; all of a repetitive head's
  /// come from the same.
  const std::vector<uint16_t> &row(uint32_t head, uint32_t q) const {
    return classes[rowClass[size_t(head) * queryBlocks + (isRepetitive(head) ? 0 : q)]];
  }
  bool operator==(const Schedule &) const = default;
};

/// The same rows, equal ones sharing a class, classes numbered in order of
/// first use: two schedules are the same where their canonical forms are equal.
Schedule canonicalSchedule(const Schedule &schedule);

/// Bytes of the data image of a schedule in a form (Runs or Table).
uint64_t scheduleImageBytes(const Schedule &schedule, Form form);
/// The data image; equal schedules give equal bytes, whatever the class numbering.
std::vector<uint8_t> buildScheduleImage(const Schedule &schedule, Form form);
/// Checks all that a device relies on when it reads the image, in one pass and without building
/// lists; returns the header. `name` begins the error message.
Result<ScheduleHeader> checkScheduleImage(std::span<const uint8_t> image, const std::string &name);
/// Checks and decodes. Rows that are equal share a class, classes numbered in order of first use.
Result<Schedule> decodeScheduleImage(std::span<const uint8_t> image, const std::string &name);
/// Recovers the schedule of a `full` or `schedule` kernel from its emitted CUDA
/// text: the immediates of the producer and the kRowClass table.
/// Text grammar: codegen/README.md. The result is canonical.
Result<Schedule> decodeEmittedSchedule(const std::string &cuda, const std::string &name);
/// What the kSpec of an emitted kernel says of the problem.
struct EmittedSpec {
  uint32_t headDim = 0, tokens = 0;
  float scale = 0;
  AnchorGrid grid = {}; ///< all zero where it has none
};
/// Nothing where the text has no kSpec, or a field of it is missing.
std::optional<EmittedSpec> emittedSpec(std::string_view cuda);
/// The grid of the repetitive heads that an emitted kernel was compiled for, as its kSpec says;
/// all zero where it has none.
AnchorGrid emittedAnchorGrid(std::string_view cuda);
/// Smallest size class (4 KiB * 4^n) that holds `bytes`.
uint32_t scheduleCapacityClass(uint64_t bytes);

} // namespace calibatt
