/* Random bytes from the system, which takes no lock. Each of librdkafka's threads seeds its random numbers when it
 * begins; OpenSSL's lock around that, held by a thread while another one forks, stays locked in the child for ever.
 * glibc has getrandom and getentropy since 2.25 only, so the system is called; old kernels have /dev/urandom. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

static rd_bool_t rd_rand_bytes_by_system(unsigned char *buf, size_t num) {
        ssize_t got = 0;
        int fd;

#if defined(__linux__) && defined(SYS_getrandom)
        do {
                got = syscall(SYS_getrandom, buf, num, 0);
        } while (got == -1 && errno == EINTR);
        if (got == (ssize_t)num)
                return rd_true;
#endif
        fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
        if (fd == -1)
                return rd_false;
        do {
                got = read(fd, buf, num);
        } while (got == -1 && errno == EINTR);
        close(fd);
        return got == (ssize_t)num;
}
