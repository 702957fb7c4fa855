// The host device: runs each launch of a call through the host executor.

#include "runtime/host/HostExecutor.h"
#include "runtime/src/Device.h"

namespace calibatt {
namespace {

HostStrides strides(const int64_t (&s)[3]) { return {s[0], s[1], s[2]}; }

class HostDevice final : public Device {
public:
  HostDevice(SharedPackage package, uint32_t threads)
      : package(std::move(package)), threads(threads) {}

  Outcome accepts(const calibatt_call_t &) const override { return {}; }
  Outcome ready(const CheckedCall &, std::span<const KernelLaunch>) const override { return {}; }
  Outcome prewarm(std::span<const KernelLaunch>, uint32_t) override { return {}; }
  DeviceStats stats() const override { return {}; }

  Outcome run(const CheckedCall &checked, std::span<const KernelLaunch> launches) override {
    const calibatt_call_t &call = checked.call;
    for (const KernelLaunch &kernel : launches) {
      auto schedule = package->schedules.get(kernel.kernel);
      if (!schedule)
        return {CALIBATT_STATUS_BAD_PACKAGE, schedule.message()};
      HostLaunch launch;
      launch.schedule = schedule->get();
      launch.headBase = kernel.headBase;
      launch.headDim = call.head_dim;
      launch.scale = call.scale;
      launch.dtype = call.dtype == CALIBATT_DTYPE_BF16 ? HostDtype::Bf16 : HostDtype::F32;
      launch.q = call.q;
      launch.k = call.k;
      launch.v = call.v;
      launch.o = call.o;
      launch.qStrides = strides(call.q_strides);
      launch.kStrides = strides(call.k_strides);
      launch.vStrides = strides(call.v_strides);
      launch.oStrides = strides(call.o_strides);
      launch.lse = call.lse;
      launch.lseBatchStride = call.lse_strides[0];
      launch.lseHeadStride = call.lse_strides[1];
      const auto tiles = hostTiles(launch, call.batch, kernel.headBegin, kernel.headCount);
      if (Status ran = runHostTiles(launch, tiles, threads); !ran)
        return {CALIBATT_STATUS_BAD_PACKAGE, package->reader.path() + ": " + ran.message()};
    }
    return {};
  }

private:
  SharedPackage package;
  uint32_t threads;
};

} // namespace

std::unique_ptr<Device> makeHostDevice(SharedPackage package, uint32_t threads) {
  return std::make_unique<HostDevice>(std::move(package), threads);
}

} // namespace calibatt
