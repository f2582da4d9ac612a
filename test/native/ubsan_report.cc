// UndefinedBehaviorSanitizer tells its reports on stderr alone where AddressSanitizer is there, too. Loaded
// before it, this adds each to a file of the folder REPORTS, where tests of child processes cannot swallow
// it.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

extern "C" {

void __ubsan_get_current_report_data(const char** kind, const char** message, const char** file,
                                     unsigned* line, unsigned* column, char** address);

__attribute__((visibility("default"))) void __ubsan_on_report() {
  const char *kind, *message, *file;
  unsigned line, column;
  char* address;
  __ubsan_get_current_report_data(&kind, &message, &file, &line, &column, &address);
  char path[256];
  snprintf(path, sizeof(path), "%s/undefined.%d", getenv("REPORTS"), getpid());
  const int report = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  dprintf(report, "%s:%u:%u: %s: %s\n", file, line, column, kind, message);
  close(report);
}

}  // extern "C"
