// The functions of calibatt.h: they check handles and struct sizes, keep exceptions inside and
// leave the message of a failure for the thread.

#include "runtime/format/Quantity.h"
#include "runtime/src/CallCheck.h"
#include "runtime/src/PackageState.h"
#include "runtime/src/Session.h"

#include <fmt/format.h>

#include <cstring>
#include <exception>
#include <new>
#include <string_view>

using namespace calibatt;

namespace {

thread_local std::string lastError;

calibatt_status_t fail(calibatt_status_t status, std::string message) {
  lastError = std::move(message);
  return status;
}

calibatt_status_t finish(Outcome outcome) {
  return outcome.ok() ? CALIBATT_STATUS_OK : fail(outcome.code, std::move(outcome.message));
}

// Runs a function that returns calibatt_status_t; exceptions become statuses.
template <typename Body> calibatt_status_t guarded(const Body &body) noexcept {
  try {
    try {
      return body();
    } catch (const std::bad_alloc &) {
      return fail(CALIBATT_STATUS_OUT_OF_MEMORY, "out of host memory");
    } catch (const std::exception &error) {
      return fail(CALIBATT_STATUS_INTERNAL, error.what());
    }
  } catch (...) { // not even memory for the message
    return CALIBATT_STATUS_OUT_OF_MEMORY;
  }
}

calibatt_status_t nullArgument(const char *function, const char *argument) {
  return fail(CALIBATT_STATUS_INVALID_ARGUMENT, fmt::format("{}: {} is null", function, argument));
}

// Copies a caller's struct of an older (shorter) or this version; what it lacks stays zero.
template <typename T> calibatt_status_t readStruct(const char *function, const T *given, T &value) {
  if (!given)
    return nullArgument(function, "its struct");
  constexpr size_t kMinimum = sizeof(size_t);
  if (given->struct_size <= kMinimum || given->struct_size > sizeof(T))
    return fail(CALIBATT_STATUS_INVALID_ARGUMENT,
                fmt::format("{}: struct_size is {}, wanted at most {} (set it to the sizeof of the "
                            "struct)",
                            function, given->struct_size, sizeof(T)));
  value = T{};
  std::memcpy(&value, given, given->struct_size);
  value.struct_size = sizeof(T);
  return CALIBATT_STATUS_OK;
}

// Fills as much of a caller's struct as it has.
template <typename T> calibatt_status_t writeStruct(const char *function, T value, T *result) {
  T unused;
  if (const auto status = readStruct(function, result, unused))
    return status;
  value.struct_size = result->struct_size;
  std::memcpy(result, &value, result->struct_size);
  return CALIBATT_STATUS_OK;
}

calibatt_status_t finishOpen(Result<PackageReader> reader, calibatt_package_t **package) {
  if (!reader)
    return fail(CALIBATT_STATUS_BAD_PACKAGE, reader.message());
  *package = new calibatt_package{std::make_shared<const PackageState>(reader.take())};
  return CALIBATT_STATUS_OK;
}

// A site's place in the schedule of its kernel.
struct SiteHead {
  std::shared_ptr<const Schedule> schedule;
  uint32_t head = 0;
};

Outcome siteHead(const PackageState &state, uint32_t layer, uint32_t head, uint32_t step,
                 SiteHead &site) {
  const Problem &problem = state.reader.manifest().problem;
  if (layer >= problem.layers || head >= problem.heads || step >= problem.steps)
    return {CALIBATT_STATUS_MISMATCH,
            fmt::format("site (layer {}, head {}, step {}) is outside the package's {}, {} and {}",
                        layer, head, step, counted(problem.layers, "layer"),
                        counted(problem.heads, "head"), counted(problem.steps, "step"))};
  const LaunchPlan plan = planLaunches(state.reader, {head, 1}, layer, step);
  auto schedule = state.schedules.get(plan.launches.front().kernel);
  if (!schedule)
    return {CALIBATT_STATUS_BAD_PACKAGE, schedule.message()};
  site = {schedule.take(), 0 - plan.launches.front().headBase};
  return {};
}

} // namespace

// The header is used as it is, so its version is written there; the project's is CMake's.
#define CALIBATT_TEXT(number) #number
#define CALIBATT_DOTTED(a, b, c) CALIBATT_TEXT(a) "." CALIBATT_TEXT(b) "." CALIBATT_TEXT(c)
static_assert(std::string_view(CALIBATT_DOTTED(CALIBATT_VERSION_MAJOR, CALIBATT_VERSION_MINOR,
                                               CALIBATT_VERSION_PATCH)) == CALIBATT_PROJECT_VERSION,
              "calibatt.h and project() are of different versions");

const char *calibatt_version(void) { return CALIBATT_PROJECT_VERSION; }

const char *calibatt_last_error_message(void) { return lastError.c_str(); }

const char *calibatt_status_name(calibatt_status_t status) {
  switch (status) {
#define CALIBATT_NAME(name)                                                                        \
  case CALIBATT_STATUS_##name:                                                                     \
    return "CALIBATT_STATUS_" #name;
    CALIBATT_NAME(OK)
    CALIBATT_NAME(INVALID_ARGUMENT)
    CALIBATT_NAME(BAD_PACKAGE)
    CALIBATT_NAME(MISMATCH)
    CALIBATT_NAME(NO_DEVICE)
    CALIBATT_NAME(UNSUPPORTED_DEVICE)
    CALIBATT_NAME(NOT_PREWARMED)
    CALIBATT_NAME(OUT_OF_MEMORY)
    CALIBATT_NAME(DRIVER_ERROR)
    CALIBATT_NAME(INTERNAL)
#undef CALIBATT_NAME
  }
  return "an unknown status";
}

calibatt_status_t calibatt_package_open(const char *path, calibatt_package_t **package) {
  return guarded([&] {
    if (!path || !package)
      return nullArgument("calibatt_package_open", path ? "package" : "path");
    return finishOpen(PackageReader::open(path), package);
  });
}

calibatt_status_t calibatt_package_open_memory(const void *data, size_t size, const char *name,
                                               calibatt_package_t **package) {
  return guarded([&] {
    if (!data || !package)
      return nullArgument("calibatt_package_open_memory", data ? "package" : "data");
    return finishOpen(PackageReader::openBytes(name ? name : "a package in memory",
                                               {static_cast<const uint8_t *>(data), size}),
                      package);
  });
}

void calibatt_package_close(calibatt_package_t *package) { delete package; }

calibatt_status_t calibatt_package_info(const calibatt_package_t *package,
                                        calibatt_package_info_t *info) {
  return guarded([&] {
    if (!package)
      return nullArgument("calibatt_package_info", "package");
    const PackageReader &reader = package->state->reader;
    const Manifest &manifest = reader.manifest();
    const Problem &problem = manifest.problem;
    calibatt_package_info_t value = {};
    value.model = problem.model.c_str();
    value.granularity = manifest.granularity.c_str();
    value.dtype = problem.dtype.c_str();
    value.archs = package->state->archs.c_str();
    value.profile_digest = manifest.profileDigest.c_str();
    value.frames = problem.frames;
    value.height = problem.height;
    value.width = problem.width;
    value.tokens = problem.tokens;
    value.max_text = problem.maxText;
    value.layers = problem.layers;
    value.heads = problem.heads;
    value.steps = problem.steps;
    value.head_dim = problem.headDim;
    value.block = problem.block;
    value.blocks = problem.blocks();
    value.min_driver = manifest.minDriver;
    value.kernels = reader.kernelCount();
    value.code_images = reader.codeCount();
    value.data_images = reader.dataCount();
    value.scale = problem.scale;
    value.file_bytes = reader.fileBytes();
    return writeStruct("calibatt_package_info", value, info);
  });
}

calibatt_status_t calibatt_package_step(const calibatt_package_t *package, uint32_t step,
                                        calibatt_step_t *info) {
  return guarded([&] {
    if (!package)
      return nullArgument("calibatt_package_step", "package");
    const PackageReader &reader = package->state->reader;
    const std::vector<StepInfo> &steps = reader.manifest().steps;
    if (steps.empty())
      return fail(CALIBATT_STATUS_MISMATCH,
                  fmt::format("{}: does not tell its schedule", reader.path()));
    if (step >= steps.size())
      return fail(CALIBATT_STATUS_MISMATCH, fmt::format("{}: has steps 0 to {}, asked for {}",
                                                        reader.path(), steps.size() - 1, step));
    calibatt_step_t value = {};
    value.timestep = steps[step].timestep;
    value.sigma = steps[step].sigma;
    value.module = steps[step].module.c_str();
    return writeStruct("calibatt_package_step", value, info);
  });
}

calibatt_status_t calibatt_site_mask(const calibatt_package_t *package, uint32_t layer,
                                     uint32_t head, uint32_t step, uint8_t *bits, size_t bytes) {
  return guarded([&] {
    if (!package || !bits)
      return nullArgument("calibatt_site_mask", package ? "bits" : "package");
    const Problem &problem = package->state->reader.manifest().problem;
    SiteHead site;
    if (Outcome found = siteHead(*package->state, layer, head, step, site); !found.ok())
      return finish(std::move(found));
    const size_t rowBytes = (problem.blocks() + 7) / 8;
    if (bytes != problem.blocks() * rowBytes)
      return fail(CALIBATT_STATUS_INVALID_ARGUMENT,
                  fmt::format("calibatt_site_mask: {} bytes given, wanted {} ({} rows of {})",
                              bytes, problem.blocks() * rowBytes, problem.blocks(), rowBytes));
    std::memset(bits, 0, bytes);
    for (uint32_t row = 0; row < problem.blocks(); ++row)
      for (uint16_t column : site.schedule->row(site.head, row))
        bits[row * rowBytes + column / 8] |= uint8_t(1u << (column % 8));
    return CALIBATT_STATUS_OK;
  });
}

calibatt_status_t calibatt_site_anchors(const calibatt_package_t *package, uint32_t layer,
                                        uint32_t head, uint32_t step, uint32_t grid[3]) {
  return guarded([&] {
    if (!package || !grid)
      return nullArgument("calibatt_site_anchors", package ? "grid" : "package");
    SiteHead site;
    if (Outcome found = siteHead(*package->state, layer, head, step, site); !found.ok())
      return finish(std::move(found));
    const AnchorGrid anchors =
        site.schedule->isRepetitive(site.head) ? site.schedule->grid : AnchorGrid{};
    grid[0] = anchors.height;
    grid[1] = anchors.width;
    grid[2] = anchors.anchors;
    return CALIBATT_STATUS_OK;
  });
}

calibatt_status_t calibatt_session_create(calibatt_package_t *package,
                                          const calibatt_session_options_t *options,
                                          calibatt_session_t **session) {
  return guarded([&] {
    if (!package || !session)
      return nullArgument("calibatt_session_create", package ? "session" : "package");
    calibatt_session_options_t value;
    if (const auto status = readStruct("calibatt_session_create", options, value))
      return status;
    std::unique_ptr<Session> made;
    if (Outcome created = Session::create(package->state, value, made); !created.ok())
      return finish(std::move(created));
    *session = new calibatt_session{std::move(made)};
    return CALIBATT_STATUS_OK;
  });
}

void calibatt_session_destroy(calibatt_session_t *session) { delete session; }

calibatt_status_t calibatt_session_prewarm(calibatt_session_t *session, const uint32_t *steps,
                                           size_t count, uint32_t batch) {
  return guarded([&] {
    if (!session)
      return nullArgument("calibatt_session_prewarm", "session");
    return finish(session->session->prewarm(steps, count, batch));
  });
}

calibatt_status_t calibatt_attention(calibatt_session_t *session, const calibatt_call_t *call) {
  return guarded([&] {
    if (!session)
      return nullArgument("calibatt_attention", "session");
    calibatt_call_t value;
    if (const auto status = readStruct("calibatt_attention", call, value))
      return status;
    return finish(session->session->attention(value));
  });
}

namespace {

// Both structs of a call for energies; `body` gets copies.
template <typename Body>
calibatt_status_t withEnergy(const char *function, calibatt_session_t *session,
                             const calibatt_call_t *call, const calibatt_energy_t *energy,
                             const Body &body) {
  return guarded([&] {
    if (!session)
      return nullArgument(function, "session");
    calibatt_call_t callValue;
    if (const auto status = readStruct(function, call, callValue))
      return status;
    calibatt_energy_t energyValue;
    if (const auto status = readStruct(function, energy, energyValue))
      return status;
    return finish(body(*session->session, callValue, energyValue));
  });
}

} // namespace

calibatt_status_t calibatt_energy_workspace(calibatt_session_t *session,
                                            const calibatt_call_t *call,
                                            const calibatt_energy_t *energy, uint64_t *bytes) {
  return withEnergy("calibatt_energy_workspace", session, call, energy,
                    [&](const Session &on, const calibatt_call_t &c, const calibatt_energy_t &e) {
                      if (!bytes)
                        return Outcome{CALIBATT_STATUS_INVALID_ARGUMENT,
                                       "calibatt_energy_workspace: bytes is null"};
                      return on.energyWorkspace(c, e, *bytes);
                    });
}

calibatt_status_t calibatt_energy(calibatt_session_t *session, const calibatt_call_t *call,
                                  const calibatt_energy_t *energy) {
  return withEnergy("calibatt_energy", session, call, energy,
                    [](Session &on, const calibatt_call_t &c, const calibatt_energy_t &e) {
                      return on.energy(c, e);
                    });
}

calibatt_status_t calibatt_match(const calibatt_package_t *package,
                                 const calibatt_session_t *session, const calibatt_call_t *call,
                                 char *text, size_t size) {
  std::string words; // of a call that fits; otherwise lastError has them
  const calibatt_status_t matched = guarded([&] {
    if (!package && !session)
      return nullArgument("calibatt_match", "both package and session");
    if (package && session && !session->session->isOf(package->state.get()))
      return fail(CALIBATT_STATUS_INVALID_ARGUMENT,
                  "calibatt_match: the session is of another package");
    calibatt_call_t value;
    if (const auto status = readStruct("calibatt_match", call, value))
      return status;
    Outcome outcome;
    if (session) {
      outcome = session->session->match(value, words);
    } else {
      const PackageReader &reader = package->state->reader;
      const HeadRange all{0, reader.manifest().problem.heads};
      CheckedCall checked;
      outcome = checkCall(reader, all, value, checked);
      if (outcome.ok())
        outcome = checkApart(checked);
      if (outcome.ok())
        outcome = checkSite(reader, value);
      if (outcome.ok())
        words = describePlan(reader, value, planLaunches(reader, all, value.layer, value.step));
    }
    return finish(std::move(outcome));
  });
  if (text && size) {
    const std::string &said = matched == CALIBATT_STATUS_OK ? words : lastError;
    const size_t length = std::min(said.size(), size - 1);
    std::memcpy(text, said.data(), length);
    text[length] = 0;
  }
  return matched;
}

calibatt_status_t calibatt_session_stats(const calibatt_session_t *session,
                                         calibatt_session_stats_t *stats) {
  return guarded([&] {
    if (!session)
      return nullArgument("calibatt_session_stats", "session");
    calibatt_session_stats_t value = {};
    session->session->stats(value);
    return writeStruct("calibatt_session_stats", value, stats);
  });
}
