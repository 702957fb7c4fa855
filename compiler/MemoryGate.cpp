#include "compiler/MemoryGate.h"

#include <fstream>
#include <string>

namespace calibatt {

MemoryGate::Room::Room(MemoryGate &gate, uint64_t bytes) : gate(gate), bytes(bytes) {
  std::unique_lock lock(gate.mutex);
  gate.changed.wait(lock, [&] { return gate.used == 0 || gate.used + bytes <= gate.budget; });
  gate.used += bytes;
}

MemoryGate::Room::~Room() {
  {
    std::lock_guard lock(gate.mutex);
    gate.used -= bytes;
  }
  gate.changed.notify_all();
}

uint64_t availableMemory() {
  std::ifstream file("/proc/meminfo");
  std::string field, unit;
  uint64_t kibibytes = 0;
  while (file >> field >> kibibytes) {
    if (field == "MemAvailable:")
      return kibibytes << 10;
    std::getline(file, unit);
  }
  return uint64_t(4) << 30;
}

} // namespace calibatt
