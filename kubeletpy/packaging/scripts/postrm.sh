case "$1" in
    purge)
        # Releases are left only if the package was removed by force, while containers ran.
        rm -rf --one-file-system /opt/kubeletpy /etc/kubeletpy
        if [ -d /var/lib/kubeletpy ]; then
            echo "kubeletpy: left the data of the node, images and volumes, in /var/lib/kubeletpy" >&2
        fi
        ;;
    remove | upgrade | failed-upgrade | abort-install | abort-upgrade | disappear) ;;
    *)
        echo "postrm called with unknown argument '$1'" >&2
        exit 1
        ;;
esac
