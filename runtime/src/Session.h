// A package on a device, for a range of heads: what is behind a calibatt_session_t.
#pragma once

#include "runtime/src/Device.h"

#include <mutex>

namespace calibatt {

class Session {
public:
  static Outcome create(SharedPackage package, const calibatt_session_options_t &options,
                        std::unique_ptr<Session> &session);

  Outcome prewarm(const uint32_t *steps, size_t count, uint32_t batch);
  Outcome attention(const calibatt_call_t &call);
  Outcome energyWorkspace(const calibatt_call_t &call, const calibatt_energy_t &energy,
                          uint64_t &bytes) const;
  Outcome energy(const calibatt_call_t &call, const calibatt_energy_t &energy);
  /// What attention() would say of the call before it runs anything, but for null pointers. OK
  /// leaves in `text` what would run.
  Outcome match(const calibatt_call_t &call, std::string &text) const;
  /// Whether it is a session of this very package.
  bool isOf(const PackageState *state) const { return package.get() == state; }
  void stats(calibatt_session_stats_t &stats) const;

private:
  Session(SharedPackage package, std::unique_ptr<Device> device, HeadRange heads, bool allowDense)
      : package(std::move(package)), device(std::move(device)), heads(heads),
        allowDense(allowDense) {}
  /// Checks everything that does not depend on layer and step, but pointers.
  Outcome check(const calibatt_call_t &call, CheckedCall &checked) const;
  /// The same of a call for energies.
  Outcome checkEnergy(const calibatt_call_t &call, const calibatt_energy_t &energy,
                      CheckedCall &checked) const;
  /// Checks everything but pointers and finds the launches.
  Outcome plan(const calibatt_call_t &call, CheckedCall &checked, LaunchPlan &plan) const;

  SharedPackage package;
  std::unique_ptr<Device> device;
  HeadRange heads;
  bool allowDense;

  mutable std::mutex mutex; ///< guards the counters below
  uint64_t calls = 0, launches = 0, fallbacks = 0;
  std::string lastFallback;
};

/// What the launches of a call are, in words.
std::string describePlan(const PackageReader &package, const calibatt_call_t &call,
                         const LaunchPlan &plan);

} // namespace calibatt

struct calibatt_session {
  std::unique_ptr<calibatt::Session> session;
};
