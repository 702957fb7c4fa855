// From a profile to lowered kernels: whatever the form, every site's kernel
// visits exactly the blocks of its mask.
#include "compiler/Pipeline.h"

#include "calib_profiles/Profile.h"
#include "codegen/SpecLowering.h"
#include "ir/Sattn.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <unistd.h>

using namespace calibatt;

namespace {

constexpr uint32_t kLayers = 2, kHeads = 3, kSteps = 4;

/// A profile with random masks: steps 0 and 2 of a head are equal, and head 2
/// is repetitive in step 3. 5 blocks and a tail.
struct RandomProfile {
  RandomProfile() {
    path = (std::filesystem::temp_directory_path() /
            ("calibatt-lowering-" + std::to_string(getpid()) + ".calib.safetensors"))
               .string();
    ProfileHeader header;
    header.model = "random";
    header.grid = {1, 7, 100};
    header.layers = kLayers;
    header.heads = kHeads;
    header.headDim = 64;
    header.steps.resize(kSteps);
    header.scale = 0.1;
    header.prompts = 1;
    header.tool = "test";
    Result<ProfileWriter> writer = ProfileWriter::create(path, header);
    REQUIRE(writer);
    std::mt19937 random(std::random_device{}());
    uint32_t blocks = header.blocks();
    for (uint32_t layer = 0; layer < kLayers; ++layer)
      for (uint32_t head = 0; head < kHeads; ++head) {
        HeadProfile profile;
        for (uint32_t step = 0; step < kSteps; ++step) {
          BlockMask mask(blocks, blocks);
          SiteStats stats;
          for (uint32_t r = 0; r < blocks; ++r)
            for (uint32_t c = 0; c < blocks; ++c)
              mask.set(r, c, r == c || random() % 2);
          if (step == 2)
            mask = profile.masks[0];
          if (head == 2 && step == 3) {
            mask = BlockMask::dense(blocks, blocks);
            stats.repetition = 0.95f;
          }
          stats.density = float(mask.density());
          profile.masks.push_back(mask);
          profile.stepMask.push_back(step);
          profile.stats.push_back(stats);
        }
        heads[{layer, head}] = profile;
        Status appended = writer->append(profile);
        REQUIRE_MESSAGE(appended, (appended ? "" : appended.message()));
      }
    REQUIRE(writer->finish());
  }
  ~RandomProfile() { std::filesystem::remove(path); }

  std::string path;
  std::map<std::pair<uint32_t, uint32_t>, HeadProfile> heads;
};

mlir::OwningOpRef<mlir::ModuleOp> compile(const ProfileReader &reader, uint32_t layer,
                                          const PipelineOptions &options,
                                          mlir::MLIRContext &context) {
  auto module = importLayer(reader, layer, context);
  REQUIRE(mlir::succeeded(module));
  mlir::PassManager manager(&context);
  buildSattnPipeline(manager, options);
  REQUIRE(mlir::succeeded(manager.run(**module)));
  return std::move(*module);
}

/// The rows of a lowered kernel as lists.
Schedule scheduleOf(const LoweredKernel &kernel) {
  Result<Schedule> schedule =
      decodeScheduleImage(buildScheduleImage(kernel.masks, Form::Table), "masks");
  REQUIRE_MESSAGE(schedule, (schedule ? "" : schedule.message()));
  return schedule.take();
}

/// What holds for every lowered kernel.
void checkKernel(const LoweredKernel &kernel) {
  const Schedule schedule = scheduleOf(kernel);
  CHECK(kernel.plan.spec.tokens == 700);
  CHECK(kernel.plan.spec.scale == 0.1f);
  CHECK(isValid(kernel.plan.spec));
  std::vector<uint16_t> sorted = kernel.order;
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size(); ++i)
    CHECK(sorted[i] == i);
  CHECK(sorted.size() == size_t(schedule.heads) * schedule.queryBlocks);
  // Head after head, longest first within a head; rows that are not there come last.
  const size_t rows = schedule.queryBlocks;
  std::vector<size_t> finished;
  for (size_t i = 0; i < kernel.order.size(); ++i) {
    const size_t row = kernel.order[i], head = row / rows;
    if (schedule.rowClass[row] == kAbsentRow) {
      CHECK(row % rows >= schedule.rowsOf(uint32_t(head)));
      continue;
    }
    CHECK(row % rows < schedule.rowsOf(uint32_t(head)));
    if (i == 0)
      continue;
    const size_t before = kernel.order[i - 1];
    REQUIRE(schedule.rowClass[before] != kAbsentRow);
    if (before / rows != head) {
      finished.push_back(before / rows);
      CHECK(std::find(finished.begin(), finished.end(), head) == finished.end());
    } else {
      CHECK(schedule.classes[schedule.rowClass[before]].size() >=
            schedule.classes[schedule.rowClass[row]].size());
    }
  }
  if (kernel.plan.form == Form::Runs || kernel.plan.form == Form::Table) {
    CHECK(kernel.plan.classes.empty());
    CHECK(kernel.image == buildScheduleImage(schedule, kernel.plan.form));
    CHECK(kernel.image.size() <= kernel.plan.scheduleCapacity);
  } else {
    CHECK(kernel.plan.classes == schedule.classes);
    CHECK(kernel.plan.heads == schedule.heads);
    CHECK(kernel.plan.rowClass == emittedRowClasses(schedule));
  }
}

} // namespace

TEST_CASE("every site's kernel visits exactly its mask, in every form and granularity") {
  RandomProfile profile;
  Result<ProfileReader> reader = ProfileReader::open(profile.path);
  REQUIRE_MESSAGE(reader, (reader ? "" : reader.message()));
  std::optional<Form> forms[] = {std::nullopt, Form::Full, Form::Schedule, Form::Runs, Form::Table};
  for (std::optional<Form> form : forms)
    for (Granularity granularity : {Granularity::Step, Granularity::Head})
      for (uint32_t layer = 0; layer < kLayers; ++layer) {
        mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
        mlir::ScopedDiagnosticHandler quiet(&context, [](mlir::Diagnostic &d) {
          return mlir::success(d.getSeverity() != mlir::DiagnosticSeverity::Error);
        });
        PipelineOptions options;
        options.form = form;
        options.granularity = granularity;
        auto module = compile(*reader, layer, options, context);
        std::map<std::string, LoweredKernel> kernels;
        std::map<std::string, Schedule> schedules;
        for (auto op : module->getOps<sattn::KernelOp>()) {
          auto lowered = lowerKernel(op);
          REQUIRE(mlir::succeeded(lowered));
          checkKernel(*lowered);
          if (form)
            CHECK(lowered->plan.form == *form);
          kernels[op.getSymName().str()] = *lowered;
          schedules[op.getSymName().str()] = scheduleOf(*lowered);
        }
        // Steps 0 and 2 are equal, so they share kernels.
        CHECK(kernels.size() == (granularity == Granularity::Step ? 3 : 3 * kHeads));
        uint32_t routes = 0;
        for (auto route : module->getOps<sattn::RouteOp>()) {
          ++routes;
          const LoweredKernel &kernel = kernels.at(route.getKernel().str());
          const Schedule &schedule = schedules.at(route.getKernel().str());
          const HeadProfile &head = profile.heads.at({layer, route.getHead()});
          const BlockMask &mask = head.masks[head.stepMask[route.getStep()]];
          for (uint32_t q = 0; q < mask.rows(); ++q) {
            std::vector<uint16_t> wanted = mask.keptColumns(q);
            std::reverse(wanted.begin(), wanted.end());
            CHECK(schedule.row(route.getHead() - kernel.headBase, q) == wanted);
          }
          CHECK(schedule.isRepetitive(route.getHead() - kernel.headBase) ==
                reader->isRepetitive(layer, route.getHead(), route.getStep()));
        }
        CHECK(routes == kHeads * kSteps);
        std::vector<std::string> remarks = remarksOf(*module);
        REQUIRE(remarks.size() == 1);
        CHECK(remarks[0] ==
              "layer " + std::to_string(layer) +
                  " head 2: repetitive in 1 step from step 3 on, computes 5 of 7 spatial "
                  "rows a frame");
      }
}

TEST_CASE("a form has one name, in the dialect and everywhere else") {
  for (Form form : {Form::Full, Form::Schedule, Form::Runs, Form::Table})
    CHECK(formName(form) == sattn::stringifyKernelForm(sattn::KernelForm(form)).str());
  CHECK(formName(Form(4)) == std::string("unknown"));
}

TEST_CASE("the dense fallback visits every block of every head") {
  RandomProfile profile;
  Result<ProfileReader> reader = ProfileReader::open(profile.path);
  REQUIRE(reader);
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  auto module = buildDenseModule(reader->header(), reader->path(), context);
  REQUIRE(module);
  mlir::PassManager manager(&context);
  buildSattnPipeline(manager, {});
  REQUIRE(mlir::succeeded(manager.run(*module)));
  auto ops = module->getOps<sattn::KernelOp>();
  REQUIRE(std::distance(ops.begin(), ops.end()) == 1);
  auto lowered = lowerKernel(*ops.begin());
  REQUIRE(mlir::succeeded(lowered));
  checkKernel(*lowered);
  CHECK(lowered->dense);
  CHECK(lowered->plan.form == Form::Runs);
  CHECK(lowered->heads == kHeads);
  CHECK(lowered->visits == uint64_t(kHeads) * 6 * 6);
}

TEST_CASE("two compiles of one layer print the same module, and a diagnostic names its site") {
  RandomProfile profile;
  Result<ProfileReader> reader = ProfileReader::open(profile.path);
  REQUIRE(reader);
  std::string texts[2];
  for (std::string &text : texts) {
    mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
    mlir::ScopedDiagnosticHandler quiet(&context,
                                        [](mlir::Diagnostic &) { return mlir::success(); });
    auto module = compile(*reader, 1, {}, context);
    text = moduleText(*module, /*withRowData=*/true);
    for (auto site : module->getOps<sattn::SiteOp>())
      CHECK(describeLocation(site.getLoc()) == profile.path + ": layer 1 head " +
                                                   std::to_string(site.getHead()) + " step " +
                                                   std::to_string(site.getStep()));
  }
  CHECK(texts[0] == texts[1]);
}
