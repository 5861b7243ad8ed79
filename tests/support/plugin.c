/*
 * Stands in for a CNI plugin: notes that it was called, does what the test wants to go wrong, and becomes the
 * real plugin of the same name, in the same process.
 *
 * It finds its files next to the directory that it lies in, for it may not add to the environment, which the
 * plugin inherits: "calls", where it appends a line of JSON, and "faults", which has lines such as
 * "bridge ADD sleep 3".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void say(const char *what)
{
	fprintf(stderr, "the plugin's stand-in: %s: %s\n", what, strerror(errno));
}

/* A file two levels up from the path: beside the directory of the plugins. */
static FILE *sibling(const char *path, const char *name, const char *mode)
{
	char file[PATH_MAX];
	int length = strlen(path);

	for (int level = 0; level < 2; level++)
		while (length > 0 && path[--length] != '/') {
		}
	snprintf(file, sizeof(file), "%.*s/%s", length, path, name);
	return fopen(file, mode);
}

static void write_string(FILE *out, const char *text, size_t length)
{
	fputc('"', out);
	for (; length > 0; text++, length--) {
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if ((unsigned char)*text < ' ')
			fprintf(out, "\\u%04x", *text);
		else
			fputc(*text, out);
	}
	fputc('"', out);
}

static void write_variables(FILE *out)
{
	const char *separator = "";

	fputc('{', out);
	for (char **variable = environ; *variable; variable++) {
		const char *value = strchr(*variable, '=');

		if (strncmp(*variable, "CNI_", 4) != 0 || !value)
			continue;
		fputs(separator, out);
		write_string(out, *variable, value - *variable);
		fputc(':', out);
		write_string(out, value + 1, strlen(value + 1));
		separator = ",";
	}
	fputc('}', out);
}

/* The inode number of the namespace behind CNI_NETNS, 0 where there is none: the name can outlive it. */
static unsigned long netns(void)
{
	const char *path = getenv("CNI_NETNS");
	struct statfs kind;
	struct stat file;

	if (!path || statfs(path, &kind) || kind.f_type != NSFS_MAGIC || stat(path, &file))
		return 0;
	return file.st_ino;
}

/* One line in one write, so that those of plugins that run at once do not mix. */
static void note(const char *path)
{
	char *line = NULL;
	size_t length = 0;
	struct timespec now;
	FILE *calls = sibling(path, "calls", "a");
	FILE *out = open_memstream(&line, &length);

	if (!calls || !out)
		return say("calls");
	clock_gettime(CLOCK_BOOTTIME, &now);
	fprintf(out, "{\"time\":%lld,\"pid\":%d,\"ppid\":%d,\"netns\":%lu,\"path\":",
		now.tv_sec * 1000000000LL + now.tv_nsec, getpid(), getppid(), netns());
	write_string(out, path, strlen(path));
	fputs(",\"variables\":", out);
	write_variables(out);
	fputs("}\n", out);
	fclose(out);
	if (write(fileno(calls), line, length) != (ssize_t)length)
		say("calls");
	fclose(calls);
	free(line);
}

static void wait_for(double seconds)
{
	struct timespec left = {.tv_sec = seconds, .tv_nsec = (seconds - (long)seconds) * 1e9};

	while (nanosleep(&left, &left) && errno == EINTR) {
	}
}

static void go_wrong(const char *action, double number)
{
	if (strcmp(action, "error") == 0) {
		puts("{\"cniVersion\":\"1.0.0\",\"code\":100,\"msg\":\"refused by the test\"}");
		exit(1);
	} else if (strcmp(action, "exit") == 0) {
		exit(number);
	} else if (strcmp(action, "signal") == 0) {
		raise(number);
	} else if (strcmp(action, "sleep") == 0) {
		wait_for(number);
	} else if (strcmp(action, "hang") == 0) {
		for (;;)
			pause();
	}
}

static void suffer_fault(const char *path, const char *plugin, const char *command)
{
	char for_plugin[32], for_command[32], action[32];
	double number;
	FILE *faults = sibling(path, "faults", "re");

	if (!faults)
		return;
	while (fscanf(faults, "%31s %31s %31s %lf", for_plugin, for_command, action, &number) == 4)
		if (strcmp(for_plugin, plugin) == 0 && strcmp(for_command, command) == 0)
			go_wrong(action, number);
	fclose(faults);
}

int main(int argc, char **argv)
{
	const char *path = (const char *)getauxval(AT_EXECFN);
	const char *command = getenv("CNI_COMMAND");
	const char *plugin = strrchr(path, '/');
	char real[PATH_MAX];

	(void)argc;
	plugin = plugin ? plugin + 1 : path;
	if (command) {
		note(path);
		suffer_fault(path, plugin, command);
	}
	snprintf(real, sizeof(real), "%s/%s", PLUGINS, plugin);
	execv(real, argv);
	say(real);
	return 1;
}
