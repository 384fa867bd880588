#!/bin/sh
# For the smoke test: what pecl and composer bring elsewhere, from Debian. It has gRPC's library but not the PHP
# extension over it, whose source is in the library's own source package. Leaves ini/grpc.ini, which loads the extension,
# and vendor/autoload.php.
set -eu

made=$PWD/debian
if [ ! -e "$made/grpc.so" ]; then
    rm -rf "$made" && mkdir -p "$made/lists/partial" "$made/ext"
    # The machine's own lists of Debian's packages, asked for their sources.
    if [ -e /etc/apt/sources.list.d/debian.sources ]; then
        list=$made/debian.sources
        sed 's/^Types: .*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >"$list"
    else
        list=$made/debian.list
        sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >"$list"
    fi
    fetch() {
        apt-get -qq -o Dir::Etc::SourceList="$list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$made/lists" \
            -o Dir::Cache="$made" -o APT::Sandbox::User=root "$@"
    }
    (cd "$made" && fetch update && fetch source --download-only grpc)
    tar -xf "$made"/grpc_*.orig.tar.* -C "$made" --strip-components=1 --wildcards '*/src/php/ext' '*/src/php/lib' \
        '*/etc/roots.pem'
    cp -r "$made"/src/php/ext/grpc/. "$made/ext"
    (cd "$made/ext" && phpize && ./configure --enable-grpc=/usr && make -j2)
    cp "$made/ext/modules/grpc.so" "$made"
fi

mkdir -p ini vendor
echo "extension=$made/grpc.so" >ini/grpc.ini
cat >vendor/autoload.php <<'PHP'
<?php
spl_autoload_register(function (string $class): void {
    foreach ([__DIR__ . '/../gen', __DIR__ . '/../debian/src/php/lib', '/usr/share/php'] as $folder) {
        $file = $folder . '/' . str_replace('\\', '/', $class) . '.php';
        if (is_file($file)) {
            require $file;
            return;
        }
    }
});
PHP
