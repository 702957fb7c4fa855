#include "runtime/src/Session.h"

#include "runtime/format/Quantity.h"
#include "runtime/src/CallCheck.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <string_view>

namespace calibatt {
namespace {

// "cuda" or "cuda:N" to N; -1 where it is neither.
int cudaOrdinal(std::string_view device) {
  if (device == "cuda")
    return 0;
  if (!device.starts_with("cuda:"))
    return -1;
  device.remove_prefix(5);
  int ordinal = -1;
  const auto parsed = std::from_chars(device.data(), device.data() + device.size(), ordinal);
  return parsed.ec == std::errc() && parsed.ptr == device.data() + device.size() ? ordinal : -1;
}

// What a device says, with the call it says it of.
Outcome atPlace(const calibatt_call_t &call, Outcome outcome) {
  if (!outcome.ok())
    outcome.message = fmt::format("layer {}, step {}: {}", call.layer, call.step, outcome.message);
  return outcome;
}

} // namespace

Outcome Session::create(SharedPackage package, const calibatt_session_options_t &options,
                        std::unique_ptr<Session> &session) {
  const uint32_t all = package->reader.manifest().problem.heads;
  HeadRange heads{options.head_begin, options.head_count};
  if (heads.begin >= all || heads.count > all - heads.begin)
    return {CALIBATT_STATUS_INVALID_ARGUMENT,
            fmt::format("heads from {} on, {} of them: the package has {}", heads.begin,
                        heads.count, counted(all, "head"))};
  if (heads.count == 0)
    heads.count = all - heads.begin;

  if (options.allow_dense > 1)
    return {CALIBATT_STATUS_INVALID_ARGUMENT,
            fmt::format("allow_dense is {}, wanted 0 or 1", options.allow_dense)};

  const std::string_view name = options.device ? options.device : "host";
  std::unique_ptr<Device> device;
  if (name == "host") {
    device = makeHostDevice(package, options.host_threads);
  } else if (const int ordinal = cudaOrdinal(name); ordinal >= 0) {
    if (Outcome made =
            makeCudaDevice(package, ordinal, options.byte_budget, options.host_threads, device);
        !made.ok())
      return made;
  } else {
    return {CALIBATT_STATUS_INVALID_ARGUMENT,
            fmt::format("device '{}' is unknown, wanted host, cuda or cuda:N", name)};
  }
  session.reset(
      new Session(std::move(package), std::move(device), heads, options.allow_dense != 0));
  return {};
}

Outcome Session::check(const calibatt_call_t &call, CheckedCall &checked) const {
  if (Outcome fits = checkCall(package->reader, heads, call, checked); !fits.ok())
    return fits;
  if (Outcome accepted = device->accepts(checked.call); !accepted.ok())
    return atPlace(call, std::move(accepted));
  return checkApart(checked);
}

Outcome Session::plan(const calibatt_call_t &call, CheckedCall &checked, LaunchPlan &plan) const {
  const PackageReader &reader = package->reader;
  if (Outcome fits = check(call, checked); !fits.ok()) {
    calibatt_call_t asked = call;
    if (allowDense && checkCompiledFor(reader, asked).message == fits.message)
      fits.message += "; its dense kernel is compiled for the same";
    return fits;
  }
  Outcome site = checkSite(reader, call);
  if (site.ok())
    plan = planLaunches(reader, heads, call.layer, call.step);
  else if (allowDense)
    plan = planDense(reader, heads, std::move(site.message));
  else
    return site;
  return {};
}

Outcome Session::prewarm(const uint32_t *steps, size_t count, uint32_t batch) {
  const Problem &problem = package->reader.manifest().problem;
  if (batch >= kMaxBatch)
    return {CALIBATT_STATUS_INVALID_ARGUMENT,
            fmt::format("prewarm: batch {}, wanted at most {}", batch, kMaxBatch - 1)};
  const size_t wanted = steps ? count : problem.steps;
  std::vector<KernelLaunch> all;
  for (size_t i = 0; i < wanted; ++i) {
    const uint32_t step = steps ? steps[i] : uint32_t(i);
    if (step >= problem.steps && allowDense)
      continue; // its calls run the dense kernel, which is prewarmed below
    if (step >= problem.steps)
      return {
          CALIBATT_STATUS_MISMATCH,
          fmt::format("prewarm: step {}: the package has steps 0 to {}", step, problem.steps - 1)};
    for (uint32_t layer = 0; layer < problem.layers; ++layer) {
      const LaunchPlan site = planLaunches(package->reader, heads, layer, step);
      all.insert(all.end(), site.launches.begin(), site.launches.end());
    }
  }
  if (allowDense) {
    const LaunchPlan dense = planDense(package->reader, heads, "");
    all.insert(all.end(), dense.launches.begin(), dense.launches.end());
  }
  return device->prewarm(all, batch ? batch : 1);
}

Outcome Session::attention(const calibatt_call_t &call) {
  CheckedCall checked;
  LaunchPlan launchPlan;
  if (Outcome fits = plan(call, checked, launchPlan); !fits.ok())
    return fits;
  if (Outcome given = checkPointers(call); !given.ok())
    return given;
  if (Outcome ran = device->run(checked, launchPlan.launches); !ran.ok())
    return atPlace(call, std::move(ran));
  const std::lock_guard lock(mutex);
  ++calls;
  launches += launchPlan.launches.size();
  if (!launchPlan.fallback.empty()) {
    ++fallbacks;
    lastFallback = std::move(launchPlan.fallback);
  }
  return {};
}

Outcome Session::checkEnergy(const calibatt_call_t &call, const calibatt_energy_t &energy,
                             CheckedCall &checked) const {
  if (Outcome fits = check(call, checked); !fits.ok())
    return fits;
  return calibatt::checkEnergy(package->reader, call, energy);
}

Outcome Session::energyWorkspace(const calibatt_call_t &call, const calibatt_energy_t &energy,
                                 uint64_t &bytes) const {
  CheckedCall checked;
  if (Outcome fits = checkEnergy(call, energy, checked); !fits.ok())
    return fits;
  bytes = device->energyWorkspace(checked, energy);
  return {};
}

Outcome Session::energy(const calibatt_call_t &call, const calibatt_energy_t &energy) {
  CheckedCall checked;
  if (Outcome fits = checkEnergy(call, energy, checked); !fits.ok())
    return fits;
  if (Outcome given = checkPointers(call); !given.ok())
    return given;
  const uint64_t needed = device->energyWorkspace(checked, energy);
  if (needed && (!energy.workspace || energy.workspace_bytes < needed ||
                 reinterpret_cast<uintptr_t>(energy.workspace) % 256))
    return atPlace(call,
                   {CALIBATT_STATUS_INVALID_ARGUMENT,
                    fmt::format("workspace has {} bytes at {}, wanted {} at a multiple of 256",
                                energy.workspace_bytes, energy.workspace, needed)});
  return atPlace(call, device->energy(checked, energy));
}

Outcome Session::match(const calibatt_call_t &call, std::string &text) const {
  CheckedCall checked;
  LaunchPlan launchPlan;
  Outcome fits = plan(call, checked, launchPlan);
  if (fits.ok())
    fits = atPlace(call, device->ready(checked, launchPlan.launches));
  if (fits.ok())
    text = describePlan(package->reader, call, launchPlan);
  return fits;
}

void Session::stats(calibatt_session_stats_t &stats) const {
  const DeviceStats resident = device->stats();
  stats.device_bytes = resident.bytes;
  stats.code_images = resident.codeImages;
  stats.data_images = resident.dataImages;
  stats.tensor_maps = resident.tensorMaps;
  stats.evictions = resident.evictions;
  stats.reruns = resident.reruns;
  const std::lock_guard lock(mutex);
  stats.calls = calls;
  stats.launches = launches;
  stats.dense_fallbacks = fallbacks;
  const size_t length = std::min(lastFallback.size(), sizeof stats.last_fallback_reason - 1);
  std::memcpy(stats.last_fallback_reason, lastFallback.data(), length);
  stats.last_fallback_reason[length] = 0;
}

std::string describePlan(const PackageReader &package, const calibatt_call_t &call,
                         const LaunchPlan &plan) {
  const KernelRecord &first = package.kernel(plan.launches.front().kernel);
  const CodeImage &code = package.codeInfo(first.code);
  std::string text = fmt::format(
      "layer {}, step {}: fits; {}, first kernel {} (form {})", call.layer, call.step,
      counted(plan.launches.size(), "launch", "launches"), code.symbol, formName(code.form));
  if (!plan.fallback.empty())
    text += "; runs dense, because " + plan.fallback;
  return text;
}

} // namespace calibatt
