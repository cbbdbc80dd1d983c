/* What the library shows of itself; everything else in it is hidden. Plain C. */
#ifndef KEEPSTEP_EXPORT_H
#define KEEPSTEP_EXPORT_H

#if defined(__GNUC__)
#define KEEPSTEP_API __attribute__((visibility("default")))
#else
#define KEEPSTEP_API
#endif

#endif
