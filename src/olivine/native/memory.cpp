// Memory reused between steps.
#include <cstdlib>  // tells which C library this is

#if defined(__GLIBC__)
#include <malloc.h>
#endif

// Asks the C library to keep what is freed. A network allocates and frees the same hundred megabytes at every step; by
// default they go back to the system each time, and fetching them again page by page costs a tenth of a step.
extern "C" void olivine_keep_memory() {
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most there is: tensors above it still come from the system
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}
