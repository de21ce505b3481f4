/* Extended registers of any size for user-mode-linux, whose Linux 6.1 has room for 2,696 bytes of them.

On a processor with tiles (AMX) they are 11,008. The kernel gives as many as there is room for, but takes all or none:
ptrace(PTRACE_SETREGSET) fails, and the machine inside ends ("ptrace set fp regs failed"). Here the bytes that it knows
are put into all of them, which are read before. Preloaded, this stands before libc's ptrace. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { NT_X86_XSTATE = 0x202, ROOM = 1 << 16 };

typedef long (*Ptrace)(enum __ptrace_request, pid_t, void *, void *);

static unsigned char every[ROOM];

long ptrace(enum __ptrace_request request, ...)
{
	va_list rest;
	va_start(rest, request);
	pid_t pid = va_arg(rest, pid_t);
	void *which = va_arg(rest, void *);
	void *data = va_arg(rest, void *);
	va_end(rest);
	Ptrace next = (Ptrace) dlsym(RTLD_NEXT, "ptrace");
	int sets = request == PTRACE_SETREGSET;
	if ((!sets && request != PTRACE_GETREGSET) || which != (void *) NT_X86_XSTATE)
		return next(request, pid, which, data);

	struct iovec *known = data, all = { every, sizeof every };
	if (next(PTRACE_GETREGSET, pid, which, &all) < 0)
		return -1;
	if (known->iov_len > all.iov_len)
		known->iov_len = all.iov_len;
	memcpy(sets ? every : known->iov_base, sets ? known->iov_base : every, known->iov_len);
	return sets ? next(PTRACE_SETREGSET, pid, which, &all) : 0;
}
