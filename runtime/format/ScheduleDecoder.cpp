#include "runtime/format/ScheduleDecoder.h"

#include "runtime/format/ScheduleCodec.h"

#include <fmt/format.h>

namespace calibatt {

/// From the nearest known schedule on.
Status ScheduleDecoder::decode(uint32_t data) {
  std::vector<uint32_t> chain; // from `data` down
  for (uint32_t i = data; i != last && i != kNone; i = package->scheduleReference(i))
    chain.push_back(i);
  for (; !chain.empty(); chain.pop_back()) {
    const uint32_t i = chain.back();
    Result<std::vector<uint8_t>> stored = package->storedSchedule(i);
    if (!stored)
      return stored.takeError();
    const bool whole = package->scheduleReference(i) == kNone;
    last = kNone; // in case it fails
    Result<DecodedSchedule> decoded =
        decodeSchedule(*stored, whole ? ScheduleMasks() : std::move(masks),
                       fmt::format("{}: data image {}", package->path(), i));
    if (!decoded)
      return decoded.takeError();
    masks = std::move(decoded->masks);
    header = decoded->header;
    last = i;
  }
  return {};
}

Result<std::vector<uint8_t>> ScheduleDecoder::image(uint32_t data) {
  if (Status status = decode(data); !status)
    return status.takeError();
  auto error = [&](const std::string &what) {
    return Error{fmt::format("{}: data image {}: {}", package->path(), data, what)};
  };
  if (header.form != unsigned(Form::Runs) && header.form != unsigned(Form::Table))
    return error(fmt::format("form is {}, wanted {} (runs) or {} (table)", header.form,
                             unsigned(Form::Runs), unsigned(Form::Table)));
  std::vector<uint8_t> image = buildScheduleImage(masks, Form(header.form));
  const Xxh128Digest digest = xxh128(image), wanted = package->imageHash(data);
  if (image.size() != package->dataBytes(data) || digest != wanted)
    return error(fmt::format("its rows give {} bytes of hash {}, wanted {} of {}", image.size(),
                             toHex(digest), package->dataBytes(data), toHex(wanted)));
  return image;
}

} // namespace calibatt
