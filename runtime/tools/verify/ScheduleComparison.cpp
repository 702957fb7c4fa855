// Decodes what the kernels read and holds it against the profile's masks.
#include "runtime/tools/verify/ScheduleComparison.h"

#include "runtime/src/KernelSchedule.h"

#include <fmt/format.h>
#include <optional>

namespace calibatt {

static Status checkSameProblem(const PackageReader &package, const ProfileReader &profile) {
  const Problem &p = package.manifest().problem;
  const ProfileHeader &h = profile.header();
  struct Field {
    const char *name;
    uint64_t package, profile;
  };
  const Field fields[] = {
      {"layers", p.layers, h.layers},           {"heads", p.heads, h.heads},
      {"steps", p.steps, h.stepCount()},        {"frames", p.frames, h.grid.frames},
      {"grid height", p.height, h.grid.height}, {"grid width", p.width, h.grid.width},
      {"max_text", p.maxText, h.maxText},       {"head_dim", p.headDim, h.headDim},
      {"block size", p.block, h.blockSize},     {"tokens", p.tokens, h.tokens()},
  };
  for (const Field &field : fields)
    if (field.package != field.profile)
      return Error{fmt::format("{}: {} is {}, but {} has {}: the package is not of this profile",
                               package.path(), field.name, field.package, profile.path(),
                               field.profile)};
  return {};
}

/// Compares one site. `schedule` covers its head as number `head`.
static void compareSite(const Site &site, const Schedule &schedule, uint32_t head,
                        const BlockMask &mask, size_t limit, ScheduleComparison &result) {
  uint64_t before = result.onlyInPackage + result.onlyInProfile;
  std::vector<uint8_t> visited;
  for (uint32_t row = 0; row < mask.rows(); ++row) {
    visited.assign(BlockMask::rowBytes(mask.cols()), 0);
    for (uint16_t block : schedule.row(head, row))
      visited[block / 8] |= uint8_t(1u << block % 8);
    std::span<const uint8_t> wanted = mask.row(row);
    for (size_t byte = 0; byte < visited.size(); ++byte) {
      for (unsigned differing = visited[byte] ^ wanted[byte]; differing;
           differing &= differing - 1) {
        unsigned bit = unsigned(__builtin_ctz(differing));
        bool inPackage = visited[byte] >> bit & 1;
        ++(inPackage ? result.onlyInPackage : result.onlyInProfile);
        if (result.first.size() < limit)
          result.first.push_back({site, row, uint32_t(byte * 8 + bit), inPackage});
      }
    }
  }
  ++result.sites;
  result.rows += mask.rows();
  result.blocks += uint64_t(mask.rows()) * mask.cols();
  result.differingSites += result.onlyInPackage + result.onlyInProfile != before;
}

Result<ScheduleComparison> compareSchedules(const PackageReader &package,
                                            const ProfileReader &profile, size_t limit) {
  if (Status s = checkSameProblem(package, profile); !s)
    return s.takeError();
  auto digest = profile.digest();
  if (!digest)
    return digest.takeError();

  const Problem &problem = package.manifest().problem;
  ScheduleComparison result;
  result.sameProfile = *digest == package.manifest().profileDigest;
  for (uint32_t layer = 0; layer < problem.layers; ++layer) {
    // A layer's masks of all heads at once: steps are outside heads below, so
    // that a kernel of all heads is decoded once.
    std::vector<HeadProfile> heads;
    for (uint32_t head = 0; head < problem.heads; ++head) {
      auto loaded = profile.head(layer, head);
      if (!loaded)
        return loaded.takeError();
      heads.push_back(loaded.take());
    }
    uint32_t decodedKernel = kNone;
    std::optional<Schedule> schedule;
    for (uint32_t step = 0; step < problem.steps; ++step)
      for (uint32_t head = 0; head < problem.heads; ++head) {
        Site site{layer, head, step};
        uint32_t kernel = package.route(layer, head, step);
        const KernelRecord &record = package.kernel(kernel);
        if (head < record.headBase || head - record.headBase >= record.heads)
          return Error{fmt::format("{}: {}: routed to kernel {}, which covers heads {}..{}",
                                   package.path(), siteName(site), kernel, record.headBase,
                                   record.headBase + record.heads - 1)};
        if (kernel != decodedKernel) {
          auto decoded = kernelSchedule(package, kernel);
          if (!decoded)
            return decoded.takeError();
          schedule = decoded.take();
          decodedKernel = kernel;
        }
        const BlockMask &mask = heads[head].masks[heads[head].stepMask[step]];
        bool repetitive = profile.isRepetitive(layer, head, step);
        result.repetitiveSites += repetitive;
        compareSite(site, *schedule, head - record.headBase,
                    repetitive ? BlockMask::dense(mask.rows(), mask.cols()) : mask, limit, result);
      }
  }
  return result;
}

std::string differenceText(const BlockDifference &difference) {
  return fmt::format("{}: row {}: key block {} is in the {} but not in the {}",
                     siteName(difference.site), difference.row, difference.block,
                     difference.inPackage ? "package" : "profile",
                     difference.inPackage ? "profile" : "package");
}

} // namespace calibatt
