#include "Emulator.h"

#include "runtime/format/LaunchParams.h"

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <ucontext.h>
#include <vector>

namespace calibatt {
alignas(1024) unsigned char dynamicSmem[emulator::kSharedBytes];
}

namespace emulator {
namespace {

constexpr int kThreads = 384;
constexpr size_t kStack = 64 * 1024;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStack);
  std::function<bool()> ready;
  const char *what = "";
  bool done = false;
};

struct Mbarrier {
  uint32_t count = 0, pending = 0, phase = 0;
  int64_t transactions = 0;
  void maybeFlip() {
    if (pending == 0 && transactions == 0) {
      phase ^= 1;
      pending = count;
    }
  }
};

struct Named {
  uint32_t arrived = 0;
  uint64_t generation = 0;
};

struct WarpExchange {
  std::array<uint32_t, 32> incoming{}, result{};
  uint32_t arrived = 0;
  uint64_t generation = 0;
};

/// One warpgroup-wide wgmma; runs when somebody waits for it.
struct Mma {
  std::array<float *, 128> d{};
  std::array<const uint32_t *, 128> a{};
  uint64_t descA = 0, descB = 0;
  int n = 0, issued = 0;
  uint64_t finishes =
      0; ///< scheduling round before which it is in flight; drawn by the first waiter
  bool fromRegisters = false, transposeB = false, accumulate = false, done = false;
};

struct Warpgroup {
  std::deque<Mma> ops;
  std::array<size_t, 128> next{};                 ///< ops issued, by thread
  std::array<std::vector<size_t>, 128> committed; ///< ops at each commit, by thread
};

struct Delayed {
  uint32_t rounds;
  std::function<void()> action;
};

struct Cta {
  std::vector<Fiber> fibers{kThreads};
  std::map<uint32_t, Mbarrier> mbarriers;
  std::array<Named, 16> named;
  std::array<WarpExchange, kThreads / 32> warps;
  std::array<Warpgroup, kThreads / 128> groups;
  std::vector<Delayed> delayed;
  std::array<std::vector<std::function<void()>>, kThreads> stores;
  uint64_t round = 0;
};

std::mt19937_64 rng;
std::unique_ptr<Cta> cta;
ucontext_t scheduler;
int current = 0;
unsigned block = 0, grid = 0;
const std::function<void()> *body = nullptr;
std::string failure;

void fiberMain() {
  try {
    (*body)();
  } catch (const std::exception &e) {
    if (failure.empty())
      failure = e.what();
  }
  cta->fibers[current].done = true;
  swapcontext(&cta->fibers[current].context, &scheduler);
}

float bf16(uint32_t bits) {
  bits <<= 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

uint16_t load16(uint32_t address) {
  if (address + 2 > kSharedBytes)
    fail("shared memory read at " + std::to_string(address));
  uint16_t value;
  std::memcpy(&value, calibatt::dynamicSmem + address, 2);
  return value;
}

uint32_t swizzle(uint32_t address) { return address ^ ((address >> 3) & 0x70); }

struct Descriptor {
  uint32_t start, leading, stride;
  explicit Descriptor(uint64_t bits)
      : start(uint32_t(bits & 0x3FFF) << 4), leading(uint32_t(bits >> 16 & 0x3FFF) << 4),
        stride(uint32_t(bits >> 32 & 0x3FFF) << 4) {
    if (bits >> 62 != 1 || (bits >> 49 & 7) != 0)
      fail("wgmma descriptor is not one of a 128-byte swizzled, aligned tile");
  }
  /// Row of the M or N dimension, column k: 64 columns a 128-byte row.
  float kMajor(int row, int k) const {
    return bf16(load16(swizzle(start + row / 8 * stride + row % 8 * 128 + k * 2)));
  }
  /// Row k, column of the N dimension: 64 columns a half.
  float mnMajor(int k, int n) const {
    return bf16(
        load16(swizzle(start + n / 64 * leading + k / 8 * stride + k % 8 * 128 + n % 64 * 2)));
  }
};

void execute(Mma &op) {
  Descriptor a(op.fromRegisters ? uint64_t(1) << 62 : op.descA), b(op.descB);
  std::vector<float> left(64 * 16), right(16 * op.n);
  for (int row = 0; row < 64; ++row) {
    for (int k = 0; k < 16; ++k) {
      if (op.fromRegisters) {
        // a0: (row l/4, cols 2(l%4)+0,1), a1: row + 8, a2: cols + 8, a3: both.
        int lane = row % 8 * 4 + k % 8 / 2, reg = row % 16 / 8 + k / 8 * 2;
        uint32_t word = op.a[row / 16 * 32 + lane][reg];
        left[row * 16 + k] = bf16(k % 2 ? word >> 16 : word & 0xFFFF);
      } else {
        left[row * 16 + k] = a.kMajor(row, k);
      }
    }
  }
  for (int k = 0; k < 16; ++k)
    for (int n = 0; n < op.n; ++n)
      right[k * op.n + n] = op.transposeB ? b.mnMajor(k, n) : b.kMajor(n, k);
  std::vector<float> row(op.n);
  for (int m = 0; m < 64; ++m) {
    std::fill(row.begin(), row.end(), 0.0f);
    for (int k = 0; k < 16; ++k)
      for (int n = 0; n < op.n; ++n)
        row[n] += left[m * 16 + k] * right[k * op.n + n];
    for (int n = 0; n < op.n; ++n) {
      // Element 4j + 2i + b of thread (w, l) is row 16w + l/4 + 8i, column 8j + 2(l%4) + b.
      int thread = m / 16 * 32 + m % 8 * 4 + n % 8 / 2;
      float &d = op.d[thread][n / 8 * 4 + m % 16 / 8 * 2 + n % 2];
      d = op.accumulate ? d + row[n] : row[n];
    }
  }
  op.done = true;
}

void runCta() {
  Cta &c = *cta;
  for (int i = 0; i < kThreads; ++i) {
    Fiber &fiber = c.fibers[i];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    makecontext(&fiber.context, fiberMain, 0);
  }
  std::vector<int> order(kThreads);
  for (int i = 0; i < kThreads; ++i)
    order[i] = i;
  for (;; ++c.round) {
    bool alive = false, progress = false;
    // Warps in random order, lanes of a warp in order from a random one.
    std::array<int, kThreads / 32> warps;
    for (size_t i = 0; i < warps.size(); ++i)
      warps[i] = int(i);
    std::shuffle(warps.begin(), warps.end(), rng);
    int rotation = int(rng() % 32);
    for (int warp : warps) {
      if (oneIn(4))
        continue; // this warp is held up
      for (int i = 0; i < 32; ++i) {
        current = warp * 32 + (i + rotation) % 32;
        Fiber &fiber = c.fibers[current];
        if (fiber.done || (fiber.ready && !fiber.ready()))
          continue;
        fiber.ready = nullptr;
        progress = true;
        swapcontext(&scheduler, &fiber.context);
        if (!failure.empty())
          throw std::runtime_error(failure);
      }
    }
    for (const Fiber &fiber : c.fibers)
      alive |= !fiber.done;
    for (size_t i = 0; i < c.delayed.size();) {
      if (c.delayed[i].rounds-- > 0) {
        ++i;
        continue;
      }
      auto action = std::move(c.delayed[i].action);
      c.delayed.erase(c.delayed.begin() + i);
      action();
      progress = true;
    }
    if (!alive && c.delayed.empty())
      return;
    static int idle;
    idle = progress ? 0 : idle + 1;
    if (idle > 10000) {
      idle = 0;
      std::string waits = "deadlock:";
      for (int i = 0; i < kThreads; i += 32)
        if (!c.fibers[i].done)
          waits += " warp " + std::to_string(i / 32) + " waits for " + c.fibers[i].what + ";";
      throw std::runtime_error(waits);
    }
  }
}

} // namespace

void launch(unsigned ctas, uint64_t seed, const std::function<void()> &kernel) {
  rng.seed(seed);
  body = &kernel;
  grid = ctas;
  for (block = 0; block < ctas; ++block) {
    std::memset(calibatt::dynamicSmem, 0xFF, kSharedBytes); // bf16 NaN
    failure.clear();
    cta = std::make_unique<Cta>();
    runCta();
  }
}

Dim3 threadIndex() { return {unsigned(current), 0, 0}; }
Dim3 blockIndex() { return {block, 0, 0}; }
Dim3 gridSize() { return {grid, 1, 1}; }
bool oneIn(unsigned n) { return rng() % n == 0; }
void fail(const std::string &message) { throw std::runtime_error(message); }
void later(std::function<void()> action) {
  cta->delayed.push_back({uint32_t(rng() % 6), std::move(action)});
}

void waitUntil(const std::function<bool()> &ready, const char *what) {
  if (ready())
    return;
  Fiber &fiber = cta->fibers[current];
  fiber.ready = ready;
  fiber.what = what;
  swapcontext(&fiber.context, &scheduler);
}

const uint32_t *exchange(uint32_t value) {
  WarpExchange &warp = cta->warps[current / 32];
  warp.incoming[current % 32] = value;
  uint64_t generation = warp.generation;
  if (++warp.arrived == 32) {
    warp.result = warp.incoming;
    warp.arrived = 0;
    ++warp.generation;
  }
  waitUntil([&warp, generation] { return warp.generation != generation; }, "its warp");
  return warp.result.data();
}

void barrier(uint32_t id, uint32_t threads, bool wait) {
  Named &named = cta->named[id];
  uint64_t generation = named.generation;
  if (++named.arrived == threads) {
    named.arrived = 0;
    ++named.generation;
  } else if (named.arrived > threads) {
    fail("named barrier " + std::to_string(id) + " got more threads than it counts");
  }
  if (wait)
    waitUntil([&named, generation] { return named.generation != generation; }, "a named barrier");
}

void mbarrierInit(uint32_t address, uint32_t count) {
  cta->mbarriers[address] = {count, count, 0, 0};
}

static Mbarrier &mbarrierAt(uint32_t address) {
  auto found = cta->mbarriers.find(address);
  if (found == cta->mbarriers.end())
    fail("no mbarrier at shared address " + std::to_string(address));
  return found->second;
}

void mbarrierArrive(uint32_t address, uint32_t expectBytes) {
  Mbarrier &barrier = mbarrierAt(address);
  if (barrier.pending == 0)
    fail("mbarrier got more arrivals than it counts");
  --barrier.pending;
  barrier.transactions += expectBytes;
  barrier.maybeFlip();
}

void mbarrierComplete(uint32_t address, uint32_t bytes) {
  Mbarrier &barrier = mbarrierAt(address);
  barrier.transactions -= bytes;
  barrier.maybeFlip();
}

bool mbarrierPhaseDone(uint32_t address, uint32_t parity) {
  return mbarrierAt(address).phase != (parity & 1);
}

calibatt::TensorMap encode(const MapFields &fields) {
  static_assert(sizeof(MapFields) <= sizeof(calibatt::TensorMap));
  calibatt::TensorMap map{};
  std::memcpy(&map, &fields, sizeof(fields));
  return map;
}

/// Calls move(global or null, shared offset) for every element of a box.
template <typename Move>
static void walkBox(const MapFields &map, uint32_t smem, const std::array<uint32_t, 5> &at,
                    Move move) {
  uint32_t offset = smem, i[5];
  for (i[4] = 0; i[4] < map.box[4]; ++i[4])
    for (i[3] = 0; i[3] < map.box[3]; ++i[3])
      for (i[2] = 0; i[2] < map.box[2]; ++i[2])
        for (i[1] = 0; i[1] < map.box[1]; ++i[1])
          for (i[0] = 0; i[0] < map.box[0]; ++i[0], offset += 2) {
            bool inside = true;
            uint64_t byte = uint64_t(at[0] + i[0]) * 2;
            for (int d = 0; d < 5; ++d) {
              inside &= at[d] + i[d] < map.dims[d];
              if (d > 0)
                byte += (at[d] + i[d]) * map.strides[d - 1];
            }
            move(inside ? static_cast<unsigned char *>(map.base) + byte : nullptr, swizzle(offset));
          }
}

static MapFields decode(const calibatt::TensorMap *map) {
  MapFields fields;
  std::memcpy(&fields, map, sizeof(fields));
  return fields;
}

void tmaLoad(uint32_t smem, const calibatt::TensorMap *map, uint32_t barrier,
             const uint32_t (&at)[5]) {
  if (smem % 1024 != 0)
    fail("TMA destination is not 1024-aligned");
  MapFields fields = decode(map);
  std::array<uint32_t, 5> where;
  std::copy(at, at + 5, where.begin());
  later([=] {
    uint32_t bytes = 0;
    walkBox(fields, smem, where, [&](unsigned char *global, uint32_t shared) {
      if (global)
        std::memcpy(calibatt::dynamicSmem + shared, global, 2);
      else
        std::memset(calibatt::dynamicSmem + shared, 0, 2);
      bytes += 2;
    });
    mbarrierComplete(barrier, bytes);
  });
}

void tmaStore(const calibatt::TensorMap *map, uint32_t smem, const uint32_t (&at)[5]) {
  MapFields fields = decode(map);
  std::array<uint32_t, 5> where;
  std::copy(at, at + 5, where.begin());
  cta->stores[current].push_back([=] {
    walkBox(fields, smem, where, [](unsigned char *global, uint32_t shared) {
      if (global)
        std::memcpy(global, calibatt::dynamicSmem + shared, 2);
    });
  });
}

void tmaStoreWait() {
  // Those of the running thread: no other thread's wait makes them happen.
  auto &stores = cta->stores[current];
  for (auto &store : stores)
    store();
  stores.clear();
}

void wgmma(float *d, int n, const uint32_t *a, uint64_t descA, uint64_t descB, bool transposeB,
           bool accumulate) {
  Warpgroup &group = cta->groups[current / 128];
  int thread = current % 128;
  size_t index = group.next[thread]++;
  if (index == group.ops.size()) {
    group.ops.emplace_back();
    Mma &op = group.ops.back();
    op.descA = descA;
    op.descB = descB;
    op.n = n;
    op.fromRegisters = a != nullptr;
    op.transposeB = transposeB;
    op.accumulate = accumulate;
  }
  Mma &op = group.ops[index];
  if (op.descA != descA || op.descB != descB || op.accumulate != accumulate || op.n != n)
    fail("threads of one warpgroup issue different wgmma");
  op.d[thread] = d;
  op.a[thread] = a;
  ++op.issued;
}

void wgmmaCommit() {
  Warpgroup &group = cta->groups[current / 128];
  group.committed[current % 128].push_back(group.next[current % 128]);
}

void wgmmaWait(int pending) {
  Warpgroup &group = cta->groups[current / 128];
  const std::vector<size_t> &commits = group.committed[current % 128];
  if (commits.size() <= size_t(pending))
    return;
  size_t target = commits[commits.size() - 1 - pending];
  if (target == 0)
    return;
  Mma &last = group.ops[target - 1];
  if (last.finishes == 0)
    last.finishes = cta->round + rng() % 24;
  waitUntil([&last] { return last.issued == 128 && cta->round >= last.finishes; },
            "its warpgroup's wgmma");
  for (size_t i = 0; i < target; ++i)
    if (!group.ops[i].done)
      execute(group.ops[i]);
}

} // namespace emulator
