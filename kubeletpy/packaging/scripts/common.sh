# What the maintainer scripts of kubeletpy share; put before each of them when the package is built.
wheels=/usr/lib/kubeletpy
versions="@PYTHONS@"

# Print the interpreter to use: the machine's default one if there are wheels for it.
interpreter() {
    default=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true)
    for version in $versions; do
        if [ "$version" = "$default" ] && [ -x "/usr/bin/python$version" ]; then
            echo "/usr/bin/python$version"
            return
        fi
    done
    for version in $versions; do
        if [ -x "/usr/bin/python$version" ]; then
            echo "/usr/bin/python$version"
            return
        fi
    done
    echo "kubeletpy: no Python of this package's versions ($versions) is installed" >&2
    return 1
}

# Carry out a step of kubeletpy.packaging.release on the bare Python of this machine.
release() {
    python=$(interpreter)
    for wheel in "$wheels"/kubeletpy-*.whl; do
        PYTHONPATH=$wheel PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 \
            "$python" -P -s -m kubeletpy.packaging.release "$@"
    done
}
