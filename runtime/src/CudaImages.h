// What a session keeps on its GPU: loaded code images, data images (schedules) and work lists,
// within a byte budget. Not synchronised: CudaDevice locks, and holds a RelaxedCapture around all
// that loads or releases.
#pragma once

#include "runtime/src/CudaDriver.h"
#include "runtime/src/CudaUploads.h"
#include "runtime/src/Device.h"
#include "runtime/src/WorkList.h"

#include <map>
#include <vector>

namespace calibatt {

/// Everything a launch needs that is already on the device.
struct ResidentKernel {
  CuKernel kernel = nullptr;
  uint32_t dynamicSmem = 0;
  CuDevicePtr schedule = 0; ///< 0 where the schedule is in the code
  CuDevicePtr work = 0;
  uint32_t workCount = 0;
  uint32_t ctas = 0;         ///< CTAs of the launch: one a tile, or one a list of tiles
  CuDevicePtr workBegin = 0; ///< of a persistent kernel: where the list of each CTA begins
};

class CudaImages {
public:
  /// `threads` decode schedules and cut work lists: 0 for one per CPU.
  CudaImages(const CudaDriver &driver, const PackageReader &package, CuDevice device,
             uint64_t byteBudget, uint32_t processors, uint32_t threads)
      : driver(driver), package(package), device(device), budget(byteBudget),
        processors(processors), uploads(driver), reader(package, threads) {}
  ~CudaImages(); ///< the context has to be current

  /// False where something of the launch is not resident.
  bool find(const KernelLaunch &launch, uint32_t batch, ResidentKernel &resident) const;
  /// Loads and uploads what the launches lack; may release what they do not need.
  Outcome load(std::span<const KernelLaunch> launches, uint32_t batch);
  /// Never releases what the launch needs: a captured graph has its addresses.
  void pin(const KernelLaunch &launch, uint32_t batch);
  DeviceStats stats() const;

  /// A code image that no kernel record has to name; once loaded it stays.
  Outcome loadCode(uint32_t code);
  /// Null where it is not loaded.
  CuKernel loadedCode(uint32_t code) const;

private:
  /// A data image (its index and zeros), or a work list.
  struct BlobKey {
    enum Kind : uint8_t { Data, WorkOfOrder, WorkOfRule } kind = Data;
    uint32_t index = 0;  ///< data image (WorkOfRule: whose rows are ordered), or tile order
    uint32_t cutFor = 0; ///< data image + 1 whose visits the lists of tiles were cut by
    uint32_t scheduleBegin = 0, headBegin = 0, headCount = 0, batch = 0;
    auto operator<=>(const BlobKey &) const = default;
  };
  struct Blob {
    CuDevicePtr address = 0;
    uint64_t bytes = 0;
    uint32_t count = 0;  ///< words of a work list
    uint32_t lists = 0;  ///< lists they are cut into; their begins follow the words
    uint64_t needed = 0; ///< number of the load that needed it last
    bool pinned = false;
    bool arrived = false; ///< the copy has been waited for
  };
  struct Code {
    CuLibrary library = nullptr;
    CuKernel kernel = nullptr;
  };

  static BlobKey dataKey(uint32_t data) { return {BlobKey::Data, data}; }
  BlobKey workKey(const KernelLaunch &launch, uint32_t batch) const;
  bool lacks(const KernelLaunch &launch, uint32_t batch) const;
  Outcome loadData(uint32_t kernel, std::vector<uint8_t> image);
  Outcome loadWork(const BlobKey &key, WorkList work);
  template <typename T>
  Outcome upload(const BlobKey &key, std::vector<T> source, uint32_t count, uint32_t lists = 0);
  /// Waits for the copies of this load and of those that failed.
  Outcome waitForCopies();
  /// Frees the blobs needed longest ago until `bytes` more fit the budget.
  Outcome makeRoom(uint64_t bytes);

  const CudaDriver &driver;
  const PackageReader &package;
  const CuDevice device;
  const uint64_t budget;
  const uint32_t processors;
  CudaUploads uploads;
  LaunchDataReader reader;
  std::map<uint32_t, Code> codes;
  std::map<BlobKey, Blob> blobs;
  uint64_t bytesUsed = 0;
  uint64_t loads = 0;
  uint64_t evictions = 0;
};

} // namespace calibatt
