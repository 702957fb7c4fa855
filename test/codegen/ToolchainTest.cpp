// Targets, the search for CUDA's libraries and programs, and sizes read from cubins.
#include "codegen/CubinSections.h"
#include "codegen/CudaToolkit.h"
#include "codegen/TargetInfo.h"

#include <cstdlib>
#include <cstring>
#include <doctest/doctest.h>
#include <elf.h>
#include <filesystem>
#include <fstream>
#include <random>

using namespace calibatt;

namespace fs = std::filesystem;

namespace {

/// A cubin with one code section of `codeBytes` for the kernel `k`.
std::vector<uint8_t> makeCubin(uint32_t codeBytes) {
  const char names[] = "\0.text.k\0.shstrtab";
  Elf64_Ehdr elf{};
  std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
  elf.e_ident[EI_CLASS] = ELFCLASS64;
  elf.e_shentsize = sizeof(Elf64_Shdr);
  elf.e_shnum = 3;
  elf.e_shstrndx = 2;
  elf.e_shoff = sizeof elf + codeBytes + sizeof names;
  Elf64_Shdr sections[3]{};
  sections[1].sh_name = 1;
  sections[1].sh_offset = sizeof elf;
  sections[1].sh_size = codeBytes;
  sections[2].sh_name = 9;
  sections[2].sh_offset = sizeof elf + codeBytes;
  sections[2].sh_size = sizeof names;
  std::vector<uint8_t> bytes(elf.e_shoff + sizeof sections, 0xEE);
  std::memcpy(bytes.data(), &elf, sizeof elf);
  std::memcpy(bytes.data() + sections[2].sh_offset, names, sizeof names);
  std::memcpy(bytes.data() + elf.e_shoff, sections, sizeof sections);
  return bytes;
}

/// An empty folder of this test's own, and the environment as it was.
struct Sandbox {
  Sandbox() : folder(fs::path(CALIBATT_BINARY_DIR) / "toolchain_test") {
    fs::remove_all(folder);
    fs::create_directories(folder);
    for (const char *name :
         {"CUDA_HOME", "CUDA_PATH", "CALIBATT_CUDA_WHEELS", "VIRTUAL_ENV", "PATH"})
      if (const char *value = std::getenv(name))
        before.emplace_back(name, value);
      else
        unset.push_back(name);
  }
  ~Sandbox() {
    for (const auto &[name, value] : before)
      setenv(name.c_str(), value.c_str(), 1);
    for (const char *name : unset)
      unsetenv(name);
    fs::remove_all(folder);
  }
  std::string program(const fs::path &relative) const {
    fs::path path = folder / relative;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << "#!/bin/sh\n";
    fs::permissions(path, fs::perms::owner_all);
    return path;
  }

  fs::path folder;
  std::vector<std::pair<std::string, std::string>> before;
  std::vector<const char *> unset;
};

} // namespace

TEST_CASE("architectures without a kernel are refused by name") {
  auto target = findTarget("sm_90a");
  REQUIRE(target);
  CHECK(target->name == "sm_90a");
  CHECK(target->fatbinName == "90a");
  for (const char *name : {"sm_80", "sm_90", "sm_100a", "gfx942", ""}) {
    auto refused = findTarget(name);
    REQUIRE(!refused);
    CHECK(refused.message() == std::string(name) + ": only sm_90a is built for now");
  }
}

TEST_CASE("a CUDA program is taken from the toolkit first, then PATH, then the wheels") {
  Sandbox sandbox;
  const char *name = "calibatt-no-such-tool";
  setenv("CUDA_HOME", (sandbox.folder / "toolkit").c_str(), 1);
  unsetenv("CUDA_PATH");
  setenv("PATH", ("/nonexistent::" + (sandbox.folder / "path").string()).c_str(), 1);
  setenv("CALIBATT_CUDA_WHEELS", (sandbox.folder / "nvidia").c_str(), 1);
  CHECK(!findCudaProgram(name));
  std::string inWheel = sandbox.program(fs::path("nvidia/cu13/bin") / name);
  CHECK(findCudaProgram(name) == inWheel);
  std::string onPath = sandbox.program(fs::path("path") / name);
  CHECK(findCudaProgram(name) == onPath);
  std::string inToolkit = sandbox.program(fs::path("toolkit/bin") / name);
  CHECK(findCudaProgram(name) == inToolkit);
  fs::permissions(inToolkit, fs::perms::owner_read);
  CHECK(findCudaProgram(name) == onPath);
}

TEST_CASE("the wheels of the active virtual environment are found") {
  Sandbox sandbox;
  unsetenv("CALIBATT_CUDA_WHEELS");
  setenv("VIRTUAL_ENV", sandbox.folder.c_str(), 1);
  CHECK(cudaWheelFolders().empty());
  fs::path lib = sandbox.folder / "lib/python3.11/site-packages/nvidia/cu13/lib";
  fs::create_directories(lib);
  CHECK(cudaWheelFolders() == std::vector<std::string>{lib.string()});
}

TEST_CASE("a library that is nowhere is one line that says where it was looked for") {
  Sandbox sandbox;
  setenv("CUDA_HOME", "/nonexistent/cuda", 1);
  auto library = CudaLibrary::open({"libcalibatt-nowhere.so.13"}, nullptr, "install it");
  REQUIRE(!library);
  CHECK(library.message().starts_with("libcalibatt-nowhere.so.13: not found in "));
  CHECK(library.message().find("/nonexistent/cuda/lib64") != std::string::npos);
  CHECK(library.message().ends_with("; install it"));
  CHECK(library.message().find('\n') == std::string::npos);
}

TEST_CASE("a library that is there but broken is reported, not passed over") {
  Sandbox sandbox;
  fs::create_directories(sandbox.folder / "lib64");
  std::ofstream(sandbox.folder / "lib64/libcalibatt-broken.so") << "not a library";
  setenv("CUDA_HOME", sandbox.folder.c_str(), 1);
  auto library = CudaLibrary::open({"libcalibatt-broken.so"}, nullptr, "install it");
  REQUIRE(!library);
  CHECK(library.message().find("libcalibatt-broken.so") != std::string::npos);
  CHECK(library.message().find("not found in") == std::string::npos);
}

TEST_CASE("the code size of a kernel is that of its text section") {
  auto bytes = cubinCodeBytes(makeCubin(1000), "k");
  REQUIRE_MESSAGE(bytes, (bytes ? "" : bytes.message()));
  CHECK(*bytes == 1000);
  auto other = cubinCodeBytes(makeCubin(1000), "other");
  REQUIRE(!other);
  CHECK(other.message() == "other: the cubin has no section .text.other");
}

TEST_CASE("a damaged cubin is an error or a size inside it, never a crash") {
  const std::vector<uint8_t> good = makeCubin(200);
  for (size_t size = 0; size < good.size(); ++size)
    CHECK(!cubinCodeBytes(std::span(good).first(size), "k"));
  std::mt19937 random(std::random_device{}());
  for (int round = 0; round < 20000; ++round) {
    std::vector<uint8_t> bad = good;
    for (int flips = 0; flips < 3; ++flips)
      bad[random() % bad.size()] = uint8_t(random());
    if (auto bytes = cubinCodeBytes(bad, "k"))
      CHECK(*bytes <= bad.size());
  }
}
