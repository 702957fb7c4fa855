// How a schedule is stored: its rows as bitmaps, or what differs from another
// schedule's. The data image is made again from it, bit for bit.
//
//   ScheduleHeader | u8 coding | u8 repetitive[(heads + 7) / 8] | body
//
// The header is the image's own. coding 0, whole: the body is the bitmaps, a row
// (blocks + 7) / 8 bytes, least significant bit first. coding 1, difference: the
// body is the distances between the bits that differ from the reference, counted
// over rows of rowWords() * 64 bits, each as bytes that add up: 255 goes on.
#pragma once

#include "runtime/format/ScheduleMasks.h"

namespace calibatt {

/// A stored schedule, decoded.
struct DecodedSchedule {
  ScheduleHeader header; ///< of the image
  ScheduleMasks masks;
};

/// Encodes `image`, whose rows are `masks`: whole, or against `reference` where that is given, of
/// the same shape, and takes less. `usedReference` says which.
std::vector<uint8_t> encodeSchedule(const ScheduleHeader &header, const ScheduleMasks &masks,
                                    const ScheduleMasks *reference, bool &usedReference);

/// Decodes and checks the rows (checkMasks). `reference` is what it was encoded against, and
/// becomes the result; without rows where there was none. That the rows give the image of the
/// header is for the caller to check. `name` begins errors.
Result<DecodedSchedule> decodeSchedule(std::span<const uint8_t> stored, ScheduleMasks reference,
                                       const std::string &name);

} // namespace calibatt
