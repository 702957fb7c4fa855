// From a site's energies to two bytes a block, and from prompts to counts.
#include "calib_profiles/CountsAccumulator.h"
#include "calib_profiles/EnergySchedule.h"
#include "calib_profiles/EnergyUnits.h"
#include "calib_profiles/PromptFold.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace calibatt {

namespace {

/// How far the energies of a row may be from 1 together: what bf16 probabilities leave.
constexpr double kRowSumTolerance = 0.02;
/// How much of its row a cover that was found elsewhere, in float32, may fall short.
constexpr double kCoverTolerance = 1e-4;

std::string numberOrName(double value) {
  return std::isnan(value) ? "NaN" : std::isinf(value) ? "infinite" : fmt::format("{:g}", value);
}

} // namespace

Status CountsAccumulator::createFile(const std::string &path, const ProfileHeader &header) {
  Result<CountsLayout> layout = CountsLayout::create(header, CountsKind::Sums, path);
  if (!layout)
    return layout.takeError();
  Result<PlacedFile> file = PlacedFile::create(path, layout->plan);
  if (!file)
    return file.takeError();
  // Everything of it is zero but the hashes.
  const uint64_t blocks = uint64_t(layout->blocks) * layout->blocks;
  const std::vector<uint8_t> zeros(blocks * 4);
  const std::vector<uint64_t> hashes(layout->sites,
                                     siteHash({}, {}, zeros, std::span(zeros).first(blocks)));
  if (Status s = file->writeAt(layout->at(CountsTensor::SiteHash, 0), bytesOf(hashes)); !s)
    return s;
  const std::vector<uint8_t> state(2 * sizeof(uint64_t)), ids = packPromptIds({});
  const Sha256Digest digest = countsDigest(layout->document, state, ids);
  if (Status s = file->writeAt(layout->at(CountsTensor::Digest, 0), digest); !s)
    return s;
  return file->commit();
}

CountsAccumulator::CountsAccumulator(CountsAccumulator &&) noexcept = default;
CountsAccumulator::~CountsAccumulator() = default;

Result<CountsAccumulator> CountsAccumulator::open(const std::string &path, CountsLock lock) {
  CountsAccumulator accumulator(path, std::move(lock));
  Result<bool> folded = foldWaitingPrompt(path);
  if (!folded)
    return folded.takeError();
  accumulator.hasRecovered = *folded;
  if (Status s = accumulator.reload(); !s)
    return s.takeError();
  return accumulator;
}

Status CountsAccumulator::reload() {
  Result<CountsReader> opened = CountsReader::open(path);
  if (!opened)
    return opened.takeError();
  if (opened->kind() != CountsKind::Sums)
    return Error{fmt::format("{}: has mean energies only, to which no prompt can be added", path)};
  if (!opened->hasDigest())
    return Error{fmt::format("{}: has version 1.x, to which no prompt can be added: `calibatt "
                             "profile merge` makes counts of this version of it",
                             path)};
  if (opened->interrupted())
    return Error{fmt::format("{}: prompt {} is half folded in, and its record {} is missing", path,
                             *opened->interrupted(), recordPath(path))};
  reader = std::make_unique<CountsReader>(opened.take());
  return {};
}

double CountsAccumulator::epsilon(uint32_t step) const {
  const ProfileHeader &h = reader->header();
  return scheduleOf(h.criterion, h.stepCount()).epsilon(step);
}

Status CountsAccumulator::checkNewPrompt(const std::string &id) const {
  if (Status s = checkPromptId(id); !s)
    return Error{fmt::format("{}: {}", path, s.message())};
  const std::vector<std::string> &ids = reader->prompts();
  if (std::binary_search(ids.begin(), ids.end(), id))
    return Error{fmt::format("{}: prompt \"{}\" is counted already", path, id)};
  if (ids.size() == SiteCounts::kMaxPrompts)
    return Error{fmt::format("{}: prompt \"{}\" would be number {}, and counts are 8 bits", path,
                             id, ids.size() + 1)};
  return {};
}

Status CountsAccumulator::begin(const std::string &id) {
  if (hasWaitingPrompt(path)) { // of a commit that failed: never to be replaced
    if (Result<bool> folded = foldWaitingPrompt(path); !folded)
      return folded.takeError();
    if (Status s = reload(); !s)
      return s;
  }
  if (Status s = checkNewPrompt(id); !s)
    return s;
  Result<PromptWriter> made = PromptWriter::create(*reader, id);
  if (!made)
    return made.takeError();
  writer.emplace(made.take());
  return {};
}

Status CountsAccumulator::check(uint64_t site, const SiteMeasurement &measured) const {
  const ProfileHeader &h = reader->header();
  const uint32_t blocks = h.blocks(), textBlock = firstTextBlock(h.tokens(), h.maxText);
  auto wrong = [&](const std::string &what) {
    return Error{fmt::format("{}: {}; prompt \"{}\" cannot be counted", reader->siteName(site),
                             what, writer ? writer->promptId() : "")};
  };
  if (!(std::abs(measured.repetition) <= 1.001))
    return wrong(
        fmt::format("repetition is {}, wanted -1 to 1", numberOrName(measured.repetition)));
  if (!std::isfinite(measured.rowMax))
    return wrong(fmt::format("the row maximum is {}", numberOrName(measured.rowMax)));
  const double enough = epsilon(uint32_t(site % h.stepCount())) * (1 - kCoverTolerance);
  for (uint32_t r = 0; r < blocks; ++r) {
    const float *row = measured.energies.data() + size_t(r) * blocks;
    double sum = 0;
    for (uint32_t c = 0; c < blocks; ++c)
      sum += row[c];
    const float least = *std::min_element(row, row + blocks);
    if (!std::isfinite(sum) || least < 0) {
      const auto bad =
          std::find_if(row, row + blocks, [](float e) { return !(e >= 0 && std::isfinite(e)); });
      return wrong(
          fmt::format("the energy of row {}, block {} is {}", r, bad - row, numberOrName(*bad)));
    }
    // Rows of text may be beyond the prompt's own.
    if (std::abs(sum - 1) > kRowSumTolerance && !(r >= textBlock && sum == 0))
      return wrong(fmt::format("the energies of row {} sum to {:g}, wanted 1", r, sum));
    if (measured.cover.empty() || r >= textBlock)
      continue;
    const uint8_t *bits = measured.cover.data() + size_t(r) * BlockMask::rowBytes(blocks);
    double kept = 0;
    for (uint32_t c = 0; c < blocks; ++c)
      kept += bits[c / 8] >> (c % 8) & 1 ? row[c] : 0;
    if (kept < enough * sum)
      return wrong(fmt::format("the cover of row {} has {:g} of its energy, wanted {:g}", r,
                               kept / sum, enough));
  }
  return {};
}

Status CountsAccumulator::add(uint64_t site, const SiteMeasurement &measured) {
  const ProfileHeader &h = reader->header();
  const uint32_t blocks = h.blocks();
  const uint32_t textBlock = firstTextBlock(h.tokens(), h.maxText);
  BlockMask cover;
  if (measured.cover.empty()) {
    cover =
        promptCover(measured.energies, blocks, textBlock, epsilon(uint32_t(site % h.stepCount())));
  } else {
    cover = BlockMask(blocks, blocks);
    for (uint32_t r = 0; r < blocks; ++r)
      for (uint32_t c = 0; c < blocks; ++c)
        cover.set(r, c,
                  r == c || r >= textBlock || c >= textBlock ||
                      (measured.cover[r * BlockMask::rowBytes(blocks) + c / 8] >> (c % 8) & 1));
  }
  std::vector<uint16_t> packed(size_t(blocks) * blocks);
  for (uint32_t r = 0; r < blocks; ++r)
    for (uint32_t c = 0; c < blocks; ++c) {
      const size_t i = size_t(r) * blocks + c;
      packed[i] = uint16_t(packUnits(energyUnits(std::min(measured.energies[i], 1.0f))) |
                           (cover.get(r, c) ? kKeptBit : 0));
    }
  SiteScalars scalars;
  scalars.addScore(measured.repetition);
  scalars.kept = cover.count();
  scalars.rowMax = measured.rowMax;
  return writer->add(site, scalars, packed);
}

Status CountsAccumulator::commit() {
  Status written = writer->commit();
  if (!written)
    return written;
  writer.reset();
  Result<bool> folded = foldWaitingPrompt(path);
  if (!folded)
    return folded.takeError();
  return reload();
}

void CountsAccumulator::abandon() { writer.reset(); }

} // namespace calibatt
