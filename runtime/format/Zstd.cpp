// libzstd with its error codes in words.
#include "runtime/format/Zstd.h"

#include <fmt/format.h>
#include <zstd.h>

#include <memory>
#include <new>

namespace calibatt {
namespace {

/// 128 MiB: the largest window that decoders accept without being told.
constexpr int kWindowLog = 27;

struct FreeContext {
  void operator()(ZSTD_CCtx *context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx *context) const { ZSTD_freeDCtx(context); }
};

} // namespace

Result<std::vector<uint8_t>> zstdCompress(std::span<const uint8_t> bytes, int level,
                                          bool longWindow) {
  std::unique_ptr<ZSTD_CCtx, FreeContext> context(ZSTD_createCCtx());
  if (!context)
    return Error{"zstd: out of memory"};
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
  if (longWindow) {
    ZSTD_CCtx_setParameter(context.get(), ZSTD_c_enableLongDistanceMatching, 1);
    ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, kWindowLog);
  }
  std::vector<uint8_t> frame(ZSTD_compressBound(bytes.size()));
  size_t size =
      ZSTD_compress2(context.get(), frame.data(), frame.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(size))
    return Error{
        fmt::format("zstd: cannot compress {} bytes: {}", bytes.size(), ZSTD_getErrorName(size))};
  frame.resize(size);
  return frame;
}

Status checkZstdFrame(std::span<const uint8_t> frame, uint64_t size, const std::string &where) {
  size_t frameBytes = ZSTD_findFrameCompressedSize(frame.data(), frame.size());
  if (ZSTD_isError(frameBytes))
    return Error{fmt::format("{}: not a zstd frame: {}", where, ZSTD_getErrorName(frameBytes))};
  if (frameBytes != frame.size())
    return Error{
        fmt::format("{}: its zstd frame has {} bytes, wanted {}", where, frameBytes, frame.size())};
  // The frame's own claim comes first, and no frame expands more than 2^15 fold
  // (128 KiB from a 4-byte block): a lie about `size` must not allocate it.
  unsigned long long claimed = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (claimed != size || size >> 15 > frame.size())
    return Error{
        fmt::format("{}: its zstd frame does not hold the {} bytes it should", where, size)};
  return {};
}

Result<std::vector<uint8_t>> zstdDecompress(std::span<const uint8_t> frame, uint64_t size,
                                            const std::string &where) {
  if (Status status = checkZstdFrame(frame, size, where); !status)
    return status.takeError();
  std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
  std::vector<uint8_t> bytes;
  try {
    bytes.resize(size);
  } catch (const std::exception &) {
    return Error{fmt::format("{}: no memory for {} bytes", where, size)};
  }
  size_t got = context ? ZSTD_decompressDCtx(context.get(), bytes.data(), bytes.size(),
                                             frame.data(), frame.size())
                       : size_t(-1);
  if (ZSTD_isError(got))
    return Error{fmt::format("{}: cannot decompress: {}", where, ZSTD_getErrorName(got))};
  if (got != size)
    return Error{fmt::format("{}: decompresses to {} bytes, wanted {}", where, got, size)};
  return bytes;
}

} // namespace calibatt
