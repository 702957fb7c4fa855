"""Measures compiles of whole models; compile_scale.sh says how it is used.

Every command runs alone. Times are by the clock and in seconds of CPU (user + system), which says more on a
machine that does other things besides; memory is the largest resident set.
"""
import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MB = 1e6
# sites: (layers, heads) of 50 steps.
SHAPES = {1000: (1, 20), 2000: (1, 40), 5000: (5, 20), 20000: (10, 40), 80000: (40, 40)}
TARGETS = {  # of the 80,000 sites of 14B on 2 cores: seconds, bytes
    "480p": {"synth_s": 300, "cold_s": 300, "cached_s": 30, "memory": 4 << 30, "package": 200e6,
             "shared": 130e6, "window": 45e6, "prewarm_s": 0.030},
    "720p": {"synth_s": 1200, "cold_s": 900, "cached_s": 90, "memory": 6 << 30, "package": 1 << 30,
             "shared": 0.6 * (1 << 30), "window": 170e6, "prewarm_s": 0.060},
}


class Failed(Exception):
    pass


def run(command):
    """Runs it and returns its standard output and what it cost."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begin
        out.seek(0), errors.seek(0)
        text = out.read().decode()
        if process.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))}: exit code {process.returncode}\n"
                         f"{text[-2000:]}{errors.read().decode()[-2000:]}")
    return text, {"wall_s": seconds, "cpu_s": usage.ru_utime + usage.ru_stime,
                  "memory_bytes": usage.ru_maxrss * 1024}


class Benchmark:
    def __init__(self, build, data):
        self.calibatt = build / "bin" / "calibatt"
        self.data = data
        data.mkdir(parents=True, exist_ok=True)

    def synth(self, preset, sites):
        """The profile and what making it cost, measured now or when it was made."""
        layers, heads = SHAPES[sites]
        profile = self.data / f"wan14b-{preset}-{sites}.calib.safetensors"
        kept = profile.with_suffix(".json")
        if not profile.exists() or not kept.exists():
            _, cost = run([self.calibatt, "profile", "synth", "--preset", f"wan2.1-14b-{preset}", "--layers",
                           layers, "--heads", heads, "-o", profile])
            kept.write_text(json.dumps(cost))
        return profile, json.loads(kept.read_text())

    def compile(self, profile, name, cache, *options):
        package = self.data / f"{name}.calibatt"
        text, cost = run([self.calibatt, "compile", profile, "-o", package, "--cache", cache, "--json", *options])
        return package, cost, json.loads(text)

    def measure(self, preset, sites):
        profile, synth = self.synth(preset, sites)
        row = {"preset": preset, "sites": sites, "synth": synth, "profile_bytes": profile.stat().st_size}
        stem = f"wan14b-{preset}-{sites}"
        cache = self.data / f"{stem}.cache"
        shutil.rmtree(cache, ignore_errors=True)
        dry, cost = run([self.calibatt, "compile", profile, "--dry-run", "--json"])
        predicted = json.loads(dry)
        package, row["cold"], report = self.compile(profile, stem, cache)
        again, row["cached"], _ = self.compile(profile, stem + "-again", cache)
        if package.read_bytes() != again.read_bytes():
            raise Failed(f"{again}: differs from {package}, which was compiled without the cache")
        again.unlink()
        row["package_bytes"] = package.stat().st_size
        row["kernels"] = len(report["kernels"])
        row["code_images"] = len(report["code_images"])
        row["data_images"] = report["data_images"]
        row["dry_run"] = {"cost": cost,
                          "kernels": [len(predicted["kernels"]), row["kernels"]],
                          "seconds": [predicted["predicted_s"], row["cold"]["wall_s"]],
                          "bytes": [predicted["predicted_package_bytes"], row["package_bytes"]]}
        verified, row["verify"] = run([self.calibatt, "verify", package, "--profile", profile,
                                       "--schedules-only", "--json"])
        if not json.loads(verified)["schedules"]["equal"]:
            raise Failed(f"{package}: differs from {profile}")
        info, _ = run([self.calibatt, "inspect", "info", package, "--json"])
        row["sections"] = {s["name"]: s["bytes"] for s in json.loads(info)["sections"]}
        prewarm, _ = run([self.calibatt, "bench", package, "--prewarm", "--device", "host", "--threads", 8,
                          "--json"])
        row["prewarm"] = json.loads(prewarm)
        shared, row["shared"], _ = self.compile(profile, stem + "-shared", cache, "--share-steps", "0.97")
        verified, _ = run([self.calibatt, "verify", shared, "--profile", profile, "--schedules-only", "--json"])
        row["shared_package_bytes"] = shared.stat().st_size
        row["shared_added"] = json.loads(verified)["schedules"]["only_in_package"]
        shutil.rmtree(cache)
        return row


def table(header, rows):
    return "\n".join(["| " + " | ".join(header) + " |", "|" + "---|" * len(header)] +
                     ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def markdown(results):
    rows = results["rows"]
    text = ["# Compiling whole models\n",
            f"`test/benchmark/compile_scale.sh`, {results['cpu']}, {results['cores']} cores, load average "
            f"{results['load'][0]:.1f} at the beginning and {results['load'][1]:.1f} at the end. Wan 2.1 14B, "
            "synthetic profiles, 50 steps. Seconds are by the clock, in brackets of CPU.\n"]

    def seconds(cost):
        return f"{cost['wall_s']:.1f} s ({cost['cpu_s']:.1f} s)"

    for row in rows:
        target = TARGETS[row["preset"]]
        if row["sites"] != 80000:
            continue
        memory = max(row[part]["memory_bytes"] for part in ("cold", "cached"))
        prewarm = row["prewarm"]
        # Threads that share cores say nothing of a host that has one for each.
        has_cores = results["cores"] >= prewarm["threads"]
        lines = [
            ("`profile synth`", seconds(row["synth"]), f"{target['synth_s']} s",
             row["synth"]["wall_s"] <= target["synth_s"]),
            ("memory of synth", f"{row['synth']['memory_bytes'] / MB:.0f} MB", "1 GiB",
             row["synth"]["memory_bytes"] <= 1 << 30),
            ("compile, cold", seconds(row["cold"]), f"{target['cold_s']} s",
             row["cold"]["wall_s"] <= target["cold_s"]),
            ("compile, everything cached", seconds(row["cached"]), f"{target['cached_s']} s",
             row["cached"]["wall_s"] <= target["cached_s"]),
            ("peak memory", f"{memory / MB:.0f} MB", f"{target['memory'] >> 30} GiB", memory <= target["memory"]),
            ("package, every mask the profile's", f"{row['package_bytes'] / MB:.1f} MB",
             f"{target['package'] / MB:.0f} MB", row["package_bytes"] <= target["package"]),
            ("package, `--share-steps 0.97`", f"{row['shared_package_bytes'] / MB:.1f} MB",
             f"{target['shared'] / MB:.0f} MB", row["shared_package_bytes"] <= target["shared"]),
            ("device memory of two steps", f"{prewarm['two_step_window_bytes'] / MB:.1f} MB",
             f"{target['window'] / MB:.0f} MB", prewarm["two_step_window_bytes"] <= target["window"]),
            (f"schedules of the next step decoded, {prewarm['threads']} threads, median",
             f"{prewarm['next_step_median_s'] * 1e3:.1f} ms", f"{target['prewarm_s'] * 1e3:.0f} ms",
             prewarm["next_step_median_s"] <= target["prewarm_s"] if has_cores else None),
            ("`verify --profile --schedules-only`", seconds(row["verify"]), "-", None),
        ]
        text.append(f"## {row['preset']}, 80,000 sites\n")
        text.append(table(["", "measured", "wanted at most", ""],
                          [(name, got, wanted, "-" if met is None else "met" if met else "not met")
                           for name, got, wanted, met in lines]))
    text.append("## Growth\n")
    text.append(table(["preset", "sites", "synth", "cold", "cached", "peak memory", "profile", "package",
                       "bytes a site", "CPU ms a site, cold"],
                      [(row["preset"], f"{row['sites']:,}", seconds(row["synth"]), seconds(row["cold"]),
                        seconds(row["cached"]), f"{row['cold']['memory_bytes'] / MB:.0f} MB",
                        f"{row['profile_bytes'] / MB:.1f} MB", f"{row['package_bytes'] / MB:.1f} MB",
                        f"{row['package_bytes'] / row['sites']:.0f}",
                        f"{row['cold']['cpu_s'] / row['sites'] * 1e3:.2f}") for row in rows]))
    text.append("## `--dry-run`: predicted and what then happened\n")
    text.append(table(["preset", "sites", "kernels", "seconds", "package"],
                      [(row["preset"], f"{row['sites']:,}", "{} / {}".format(*row["dry_run"]["kernels"]),
                        "{:.1f} / {:.1f}".format(*row["dry_run"]["seconds"]),
                        "{:.1f} / {:.1f} MB".format(*(b / MB for b in row["dry_run"]["bytes"]))) for row in rows]))
    return "\n".join(text)


def cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("result", nargs="?", default=HERE / "results" / "compile-scale", type=Path)
    parser.add_argument("--preset", action="append", choices=sorted(TARGETS))
    parser.add_argument("--sites", action="append", type=int, choices=sorted(SHAPES))
    options = parser.parse_args()
    benchmark = Benchmark(options.build.resolve(), options.data)
    results = {"cpu": cpu_name(), "cores": os.cpu_count(), "load": [os.getloadavg()[0]], "rows": []}
    for preset in options.preset or sorted(TARGETS):
        for sites in options.sites or ([1000, 5000, 20000, 80000] if preset == "480p" else [80000]):
            print(f"{preset}, {sites} sites ...", file=sys.stderr, flush=True)
            results["rows"].append(benchmark.measure(preset, sites))
    results["load"].append(os.getloadavg()[0])
    options.result.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    options.result.with_suffix(".md").write_text(markdown(results))
    print(markdown(results))


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"compile_scale: {failure}")
