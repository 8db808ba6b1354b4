// Replays launches that cuda_races.py has written to a file. All numbers are of 8 bytes: of a launch
// its kernel, blocks, threads, shared memory, regions of memory (bytes, contents) and arguments
// (kind, value).

#include <vector>

typedef void (*Launch)(unsigned, unsigned, unsigned, void**);

static unsigned long long next(FILE* file) {
  unsigned long long number;
  if (fread(&number, sizeof number, 1, file) != 1) exit(0);  // the end
  return number;
}

static void replay(FILE* file, const Launch* kernels, const char* const* names) {
  const unsigned long long kernel = next(file), blocks = next(file), threads = next(file);
  const unsigned long long shared = next(file);
  std::vector<std::vector<char>> regions(next(file));
  for (auto& region : regions) {
    region.resize(next(file));
    if (fread(region.data(), 1, region.size(), file) != region.size()) host::fail("a short file");
  }
  std::vector<unsigned long long> values(next(file));
  for (auto& value : values) {
    const unsigned long long kind = next(file);  // a number, or a region and the place in it
    value = next(file);
    if (kind > 0) value += reinterpret_cast<unsigned long long>(regions[kind - 1].data());
  }
  std::vector<void*> arguments;
  for (auto& value : values) arguments.push_back(&value);
  fprintf(stderr, "launch %s\n", names[kernel]);
  kernels[kernel](blocks, threads, shared, arguments.data());
}
