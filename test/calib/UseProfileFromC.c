/* profile.h as a C or C++ program uses it, beside calibatt.h. */
#include <calibatt/calibatt.h>
#include <calibatt/profile.h>

int countOnePrompt(const char *path, const float *energies, const float *repetition);

int countOnePrompt(const char *path, const float *energies, const float *repetition) {
  calibatt_counts_problem_t problem = CALIBATT_PROFILE_INIT(calibatt_counts_problem_t);
  calibatt_site_energies_t site = CALIBATT_PROFILE_INIT(calibatt_site_energies_t);
  calibatt_counts_t *counts = NULL;
  calibatt_profile_status_t status;
  problem.model = "a model";
  problem.frames = 3, problem.height = 7, problem.width = 20;
  problem.layers = problem.heads = problem.steps = 1;
  problem.head_dim = 64;
  site.energies = energies;
  site.repetition = repetition;
  status = calibatt_counts_open(path, &problem, &counts);
  if (status == CALIBATT_PROFILE_STATUS_OK)
    status = calibatt_counts_begin_prompt(counts, "a prompt");
  if (status == CALIBATT_PROFILE_STATUS_OK)
    status = calibatt_counts_add(counts, &site);
  if (status == CALIBATT_PROFILE_STATUS_OK)
    status = calibatt_counts_commit_prompt(counts);
  if (status == CALIBATT_PROFILE_STATUS_OK)
    status = calibatt_counts_select(counts, NULL, "profile", NULL);
  calibatt_counts_close(counts);
  return status == CALIBATT_PROFILE_STATUS_OK ? 0 : 1;
}
