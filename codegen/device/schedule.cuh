// How a kernel reads a schedule that is data: the forms `runs` and `table`.
// Unrolled forms have a generated Program with the same members instead.
#pragma once

#include "consumer.cuh"
#include "producer.cuh"
#include "runtime/format/ScheduleLayout.h"

namespace calibatt {

/// The row of a data image that a CTA computes.
template <AttentionSpec S, Form F> struct DataProgram {
  const u32 *words; ///< the row's first word
  u32 wordCount;
  u32 row; ///< RowEntry::visits: visits and flags; 0 for a row that is not there

  CALIBATT_DEVICE DataProgram(const unsigned char *image, u32 row, u32 head) {
    // The rows follow the header, so that the row's entry is one load away.
    const ScheduleHeader *header = reinterpret_cast<const ScheduleHeader *>(image);
    const u32 base = ptx::loadConstant(&header->words_offset);
    const u32 *entry = reinterpret_cast<const u32 *>(header + 1) + 2 * (head * blockCount(S) + row);
    words = reinterpret_cast<const u32 *>(image + base) + ptx::loadConstant(entry);
    const u32 counts = ptx::loadConstant(entry + 1);
    wordCount = counts & 0xFFFFu;
    this->row = counts >> 16;
  }

  CALIBATT_DEVICE bool exists() const { return row != 0; }
  /// Whether the row holds anchor queries of a repetitive head. Called by whole warps.
  CALIBATT_DEVICE bool isPacked() const { return (uniformRow() & kRowIsPacked) != 0; }

  CALIBATT_DEVICE void produce(Producer<S> &producer) const {
    if constexpr (F == Form::Runs) {
#pragma unroll 1
      for (u32 i = 0; i < wordCount; ++i)
        producer.visitRun(ptx::loadConstant(words + i));
    } else {
#pragma unroll 1
      for (u32 i = wordCount; i > 0; --i) {
        u32 bits = ptx::loadConstant(words + i - 1);
        while (bits != 0) {
          const u32 bit = 31 - __clz(bits);
          bits ^= 1u << bit;
          producer.visitToken(((i - 1) * 32 + bit) * kTileKeys);
        }
      }
    }
    producer.finish();
  }

  CALIBATT_DEVICE void consume(Consumer<S> &consumer) const {
    const u32 flags = uniformRow();
    consumer.run(flags & kRowVisitsMask, (flags & kRowStartsWithTail) != 0);
  }

private:
  /// Broadcast, so that the compiler knows it to be uniform over the warp.
  CALIBATT_DEVICE u32 uniformRow() const { return __shfl_sync(~0u, row, 0); }
};

} // namespace calibatt
