<?php
$console = getenv('PIXELWARD_CONSOLE');
$metadata["$console/saml/metadata"] = [
    'AssertionConsumerService' => "$console/saml/acs",
    'SingleLogoutService' => "$console/saml/logout",
    'NameIDFormat' => 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
    'simplesaml.nameidattribute' => 'uid',
    'saml20.sign.response' => true,
    'saml20.sign.assertion' => true,
    'signature.algorithm' => 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
    'attributeencodings' => [],
];
