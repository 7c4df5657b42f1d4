// Sends the message in a file with nodemailer, and says as JSON what the library told.
//
// usage: node client.js PORT FILE RECIPIENT...
'use strict';

const fs = require('fs');
const nodemailer = require('nodemailer');

const [port, path, ...to] = process.argv.slice(2);
const transport = nodemailer.createTransport({ host: '127.0.0.1', port, name: 'client.example', ignoreTLS: true });
const told = { refused: [], reply: '' };
transport
    .sendMail({ envelope: { from: 'news@shop.example', to }, raw: fs.readFileSync(path) })
    .then(info => {
        told.refused = info.rejected.slice().sort();
        told.reply = [info.response, ...(info.rejectedErrors || []).map(error => error.response)].join(' ');
    })
    .catch(error => {
        told.refused = (error.rejected || []).slice().sort();
        told.reply = String(error.response || error.message);
    })
    .finally(() => console.log(JSON.stringify(told)));
