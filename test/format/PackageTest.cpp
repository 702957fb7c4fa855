// Packages: what is written is read back, and what is wrong is said by write().
#include "runtime/format/Package.h"
#include "test/format/Samples.h"

#include <doctest/doctest.h>

#include <csignal>
#include <functional>
#include <limits>
#include <sys/resource.h>
#include <unistd.h>

using namespace calibatt;
using namespace calibatt::test;

TEST_CASE("a package reads back as it was written") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  PackageContent content = randomContent(random, random.integer(1, 5000));
  std::string path = folder.file("m.calibatt");
  Status status = fill(content).write(path);
  REQUIRE_MESSAGE(status, status.message());
  CHECK(folder.list() == std::vector<std::string>{"m.calibatt"});

  Result<PackageReader> opened = PackageReader::open(path);
  REQUIRE_MESSAGE(opened, opened.message());
  PackageReader &package = *opened;
  CHECK(package.path() == path);
  const Manifest &got = package.manifest(), &want = content.manifest;
  CHECK(got.problem.model == want.problem.model);
  CHECK(got.problem.tokens == want.problem.tokens);
  CHECK(got.problem.scale == want.problem.scale);
  CHECK(got.problem.headDim == want.problem.headDim);
  CHECK(got.archs == want.archs);
  CHECK(got.repetition.gamma == want.repetition.gamma);
  CHECK(got.repetition.anchors == want.repetition.anchors);
  CHECK(got.profileDigest == want.profileDigest);
  CHECK(got.supersetPasses == want.supersetPasses);
  CHECK(got.toolchainDigest == want.toolchainDigest);
  CHECK(got.minDriver == want.minDriver);
  CHECK(got.remarks == want.remarks);

  REQUIRE(package.codeCount() == content.codes.size());
  for (uint32_t i = 0; i < package.codeCount(); ++i) {
    const CodeImage &code = content.codes[i];
    CHECK(package.codeInfo(i).symbol == code.symbol);
    CHECK(package.codeInfo(i).form == code.form);
    CHECK(package.codeInfo(i).registers == code.registers);
    CHECK(package.codeInfo(i).dynamicSmem == code.dynamicSmem);
    CHECK(package.fatbin(i).take() == code.fatbin);
    CHECK(package.cuda(i).take() == code.cuda);
    CHECK(package.ptx(i).take() == code.ptx);
  }
  REQUIRE(package.dataCount() == content.datas.size());
  for (uint32_t i = 0; i < package.dataCount(); ++i) {
    CHECK(package.data(i).take() == content.datas[i]);
    CHECK(package.dataBytes(i) == content.datas[i].size());
  }
  REQUIRE(package.orderCount() == content.orders.size());
  for (uint32_t i = 0; i < package.orderCount(); ++i)
    CHECK(package.order(i).take() == content.orders[i]);
  REQUIRE(package.kernelCount() == content.kernels.size());
  for (uint32_t i = 0; i < package.kernelCount(); ++i) {
    const KernelRecord &a = package.kernel(i), &b = content.kernels[i];
    CHECK(a.code == b.code);
    CHECK(a.data == b.data);
    CHECK(a.order == b.order);
    CHECK(a.layer == b.layer);
    CHECK(a.step == b.step);
    CHECK(a.heads == b.heads);
    CHECK(a.visits == b.visits);
    CHECK(a.predictedMicros == b.predictedMicros);
    CHECK(a.reason == b.reason);
  }
  size_t site = 0;
  for (uint32_t layer = 0; layer < 2; ++layer) {
    for (uint32_t head = 0; head < 2; ++head)
      for (uint32_t step = 0; step < 3; ++step, ++site) {
        CHECK(package.route(layer, head, step) == content.routes[site]);
        CHECK(package.stats(layer, head, step).keptMass == content.stats[site].keptMass);
        CHECK(package.stats(layer, head, step).repetition == content.stats[site].repetition);
        CHECK(package.isRepetitive(layer, head, step) ==
              (content.stats[site].repetition >= want.repetition.gamma));
      }
    CHECK(package.ir(layer).take() == content.ir[layer]);
  }
  CHECK_FALSE(package.ir(2));
  CHECK(package.denseKernel() == content.dense);
  uint64_t bytes = 0;
  for (const PackageReader::Section &section : package.sections())
    bytes += section.bytes;
  CHECK(bytes == package.fileBytes());
  CHECK(bytes == std::filesystem::file_size(path));
}

TEST_CASE("equal content gives equal bytes and equal images are stored once") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  PackageContent content = randomContent(random, 300);
  REQUIRE(fill(content).write(folder.file("a")));
  PackageWriter again = fill(content);
  CHECK(again.addCode(content.codes[1]) == 1);
  CHECK(again.addData(content.datas[0]) == 0);
  CHECK(again.addOrder(content.orders[1]) == 1);
  REQUIRE(again.write(folder.file("b")));
  REQUIRE(again.write(folder.file("c")));
  CHECK(readBytes(folder.file("a")) == readBytes(folder.file("b")));
  CHECK(readBytes(folder.file("a")) == readBytes(folder.file("c")));
}

TEST_CASE("write() refuses inconsistent content by name and leaves no file") {
  Random random;
  INFO("seed ", random.seed);
  struct Case {
    const char *wanted;
    std::function<void(PackageContent &)> spoil;
  };
  const Case cases[] = {
      {"has no kernel", [](auto &c) { c.routes[4] = kNone; }},
      {"kernel is 99, but there are 7", [](auto &c) { c.routes[4] = 99; }},
      {"has no dense kernel", [](auto &c) { c.dense = kNone; }},
      {"code is 9, but there are 2", [](auto &c) { c.kernels[1].code = 9; }},
      {"order is 77", [](auto &c) { c.kernels[1].order = 77; }},
      {"data is 4294967295", [](auto &c) { c.kernels[1].data = kNone; }},
      {"covers 2 heads from 1 on", [](auto &c) { c.kernels[1].headBase = 1; }},
      {"is of layer 7", [](auto &c) { c.kernels[1].layer = 7; }},
      {"visits", [](auto &c) { ++c.kernels[1].visits; }},
      {"which came before", [](auto &c) { c.orders[0][1] = c.orders[0][0]; }},
      {"magic is", [](auto &c) { c.datas[0][0] ^= 1; }},
      {"symbol", [](auto &c) { c.codes[0].symbol = "a b"; }},
      {"problem.tokens is 421", [](auto &c) { c.manifest.problem.tokens = 421; }},
      {"problem.heads is 0", [](auto &c) { c.manifest.problem.heads = 0; }},
      {"problem.scale", [](auto &c) { c.manifest.problem.scale = 0; }},
      {"granularity is \"row\"", [](auto &c) { c.manifest.granularity = "row"; }},
      {"repetition.anchors is 65", [](auto &c) { c.manifest.repetition.anchors = 65; }},
      {"repetition.gamma is inf",
       [](auto &c) { c.manifest.repetition.gamma = std::numeric_limits<double>::infinity(); }},
      {"archs is empty", [](auto &c) { c.manifest.archs.clear(); }},
      {"superset_passes[0]: bound of share-steps is 1.5",
       [](auto &c) { c.manifest.supersetPasses[0].bound = 1.5; }},
      {"superset_passes[1]: bound is nan",
       [](auto &c) { c.manifest.supersetPasses[1].bound = NAN; }},
      {"not UTF-8", [](auto &c) { c.manifest.problem.model.assign(1, '\xff'); }},
      {"wanted finite numbers", [](auto &c) { c.stats[2].density = NAN; }},
  };
  for (const Case &test : cases) {
    ScratchFolder folder;
    PackageContent content = randomContent(random, 50);
    test.spoil(content);
    Status status = fill(content).write(folder.file("m.calibatt"));
    INFO(test.wanted);
    REQUIRE_FALSE(status);
    INFO(status.message());
    CHECK(status.message().find(test.wanted) != std::string::npos);
    CHECK(status.message().find("m.calibatt: ") != std::string::npos);
    CHECK(folder.list().empty());
  }
}

TEST_CASE("a full disk is an error and leaves no file") {
  Random random;
  ScratchFolder folder;
  PackageWriter writer = fill(randomContent(random, 20000));
  // A file-size limit fails write() as a full disk does, given that SIGXFSZ is ignored.
  rlimit before;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  auto *handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 10000;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  Status status = writer.write(folder.file("m.calibatt"));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  REQUIRE_FALSE(status);
  CHECK(status.message().find("m.calibatt: cannot write") != std::string::npos);
  CHECK(folder.list().empty());
}
