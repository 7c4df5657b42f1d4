<?php
$config = [
    'people' => [
        'exampleauth:UserPass',
        'olga:secret' => ['uid' => ['olga'], 'groups' => ['officers']],
        'nora:secret' => ['uid' => ['nora']],
    ],
];
